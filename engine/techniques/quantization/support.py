"""Which number formats each runtime realises for which task, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.host import HostFacts
from engine.domain.knobs import KnobValue, format_value
from engine.domain.recipe import RuntimeId, TechniqueId
from engine.domain.technique import Obstacle, Situation

EVERY_TASK = frozenset(TaskId)
MODULES = EVERY_TASK - {TaskId.TENSORS}
"""What has a torch module; generic tensors come as ONNX graphs only."""
CAUSAL = frozenset({TaskId.CAUSAL_LM})
TEXTS = frozenset({TaskId.TEXT_ENCODER, TaskId.TEXT_CLASSIFIER})
TENSORS = frozenset({TaskId.IMAGE_CLASSIFIER, TaskId.TENSORS})


@dataclass(frozen=True, slots=True)
class Support:
    """A runtime realises `format` in `modes` for `tasks`. The first mode is what auto takes."""

    runtime: RuntimeId
    format: str
    tasks: frozenset[TaskId]
    modes: tuple[str, ...]
    needs: str = ""
    """What the processor must have: `vnni`, `bf16` or `fp16`."""
    linear_only: bool = False
    """Linear layers alone become integers: right for a vision transformer, nothing gained on a CNN."""

    def fits(self, host: HostFacts) -> bool:
        return {"": True, "vnni": host.has_vnni, "bf16": host.has_bf16, "fp16": host.has_fp16}[self.needs]

    def covers(self, card: ModelCard) -> bool:
        is_cnn = card.operators.get("Conv2d", 0) >= card.operators.get("Linear", 0)
        return card.task in self.tasks and not (self.linear_only and is_cnn)


_NEEDS = {"vnni": "native int8 dot products (VNNI)", "bf16": "native bf16 arithmetic", "fp16": "native fp16 arithmetic"}
IMAGES = frozenset({TaskId.IMAGE_CLASSIFIER})

SUPPORT: tuple[Support, ...] = (
    Support(RuntimeId.EAGER, "bf16", MODULES, ("auto",)),
    Support(RuntimeId.EAGER, "int8", TEXTS, ("dynamic", "weight_only")),
    Support(RuntimeId.EAGER, "int8", CAUSAL, ("weight_only", "dynamic")),
    Support(RuntimeId.EAGER, "int8", IMAGES, ("dynamic", "weight_only"), linear_only=True),
    Support(RuntimeId.EAGER, "int4", CAUSAL, ("weight_only",)),
    Support(RuntimeId.EAGER, "fp16", MODULES, ("auto",), needs="fp16"),
    Support(RuntimeId.EAGER, "fp8", TEXTS | CAUSAL, ("dynamic",)),
    Support(RuntimeId.EAGER, "fp8", IMAGES, ("dynamic",), linear_only=True),
    Support(RuntimeId.INDUCTOR, "bf16", MODULES, ("auto",)),
    Support(RuntimeId.INDUCTOR, "int8", TEXTS, ("dynamic", "weight_only")),
    Support(RuntimeId.INDUCTOR, "int8", CAUSAL, ("weight_only", "dynamic")),
    Support(RuntimeId.INDUCTOR, "int8", IMAGES, ("dynamic", "weight_only"), linear_only=True),
    Support(RuntimeId.INDUCTOR, "int4", CAUSAL, ("weight_only",)),
    Support(RuntimeId.INDUCTOR, "fp16", MODULES, ("auto",), needs="fp16"),
    Support(RuntimeId.INDUCTOR, "fp8", TEXTS | CAUSAL, ("dynamic",)),
    Support(RuntimeId.INDUCTOR, "fp8", IMAGES, ("dynamic",), linear_only=True),
    Support(RuntimeId.ONNXRUNTIME, "int8", TEXTS, ("dynamic", "static")),
    Support(RuntimeId.ONNXRUNTIME, "int8", TENSORS, ("static", "dynamic")),
    Support(RuntimeId.ONNXRUNTIME, "int8", CAUSAL, ("dynamic", "weight_only")),
    Support(RuntimeId.ONNXRUNTIME, "int4", CAUSAL, ("dynamic", "weight_only")),
    Support(RuntimeId.OPENVINO, "bf16", EVERY_TASK, ("auto",), needs="bf16"),
    Support(RuntimeId.OPENVINO, "fp16", EVERY_TASK, ("auto",), needs="fp16"),
    Support(RuntimeId.OPENVINO, "int8", EVERY_TASK - CAUSAL, ("static", "weight_only")),
    Support(RuntimeId.OPENVINO, "int8", CAUSAL, ("dynamic",), needs="vnni"),
    Support(RuntimeId.OPENVINO, "int8", CAUSAL, ("weight_only",)),
    Support(RuntimeId.OPENVINO, "int4", CAUSAL, ("dynamic",), needs="vnni"),
    Support(RuntimeId.OPENVINO, "int4", CAUSAL, ("weight_only",)),
)


@dataclass(frozen=True, slots=True)
class KnobSupport:
    """`runtime` heeds `knob`, at `values` (all of them when empty), for `format`, `tasks` and `modes` (all when empty)."""

    knob: str
    runtime: RuntimeId
    format: str
    tasks: frozenset[TaskId]
    values: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    files: frozenset[ArtifactFormat] = frozenset(ArtifactFormat)

    def heeds(self, value: KnobValue, mode: str) -> bool:
        return (not self.values or str(value) in self.values) and (not self.modes or mode in ("auto", *self.modes))


SINGLE_PASS = EVERY_TASK - CAUSAL
OWN_GRAPHS = frozenset(ArtifactFormat) - {ArtifactFormat.ONNX}
"""Causal LMs whose cache is laid out here; an ONNX graph brings its own."""

KNOBS: tuple[KnobSupport, ...] = (
    KnobSupport("group_size", RuntimeId.EAGER, "int4", CAUSAL, ("32", "64", "128", "256")),
    KnobSupport("group_size", RuntimeId.INDUCTOR, "int4", CAUSAL, ("32", "64", "128", "256")),
    KnobSupport("group_size", RuntimeId.ONNXRUNTIME, "int4", CAUSAL, ("16", "32", "64", "128", "256")),
    KnobSupport("group_size", RuntimeId.ONNXRUNTIME, "int8", CAUSAL, ("16", "32", "64", "128", "256")),
    KnobSupport("group_size", RuntimeId.OPENVINO, "int4", CAUSAL, ("16", "32", "64", "128", "256")),
    KnobSupport("calibration", RuntimeId.EAGER, "int4", CAUSAL, ("none",)),
    KnobSupport("calibration", RuntimeId.INDUCTOR, "int4", CAUSAL, ("none",)),
    KnobSupport("calibration", RuntimeId.ONNXRUNTIME, "int4", CAUSAL, ("none",)),
    KnobSupport("calibration", RuntimeId.OPENVINO, "int4", CAUSAL),
    KnobSupport("ratio", RuntimeId.OPENVINO, "int4", CAUSAL),
    KnobSupport("shortlist", RuntimeId.ONNXRUNTIME, "int4", CAUSAL),
    KnobSupport("smooth", RuntimeId.ONNXRUNTIME, "int8", SINGLE_PASS, modes=("dynamic", "static")),
    KnobSupport("smooth", RuntimeId.OPENVINO, "int8", SINGLE_PASS, modes=("static",)),
    KnobSupport("kv_cache", RuntimeId.OPENVINO, "int8", CAUSAL, files=OWN_GRAPHS),
    KnobSupport("kv_cache", RuntimeId.OPENVINO, "int4", CAUSAL, files=OWN_GRAPHS),
    KnobSupport("fallback", RuntimeId.ONNXRUNTIME, "int8", SINGLE_PASS),
    KnobSupport("fallback", RuntimeId.OPENVINO, "int8", SINGLE_PASS, modes=("static",)),
    KnobSupport("fallback", RuntimeId.OPENVINO, "int4", CAUSAL),
)


def unsupported_knobs(situation: Situation, format: str, mode: str, asked: Mapping[str, KnobValue]) -> list[Obstacle]:
    """One obstacle for each of the `asked` knobs (those off their defaults) that this runtime would not heed."""
    return [found for name, value in asked.items() if (found := _unheeded(situation, format, mode, name, value))]


def _unheeded(situation: Situation, format: str, mode: str, name: str, value: KnobValue) -> Obstacle | None:
    card = situation.card
    fitting = [k for k in KNOBS if k.knob == name and k.format == format and card.task in k.tasks and card.format in k.files]
    here = [k for k in fitting if k.runtime is situation.runtime]
    if any(k.heeds(value, mode) for k in here):
        return None
    shown = f"{name}={format_value(value)}"
    able = sorted({str(k.runtime) for k in fitting if k.heeds(value, mode)})
    words = here[0].values if here and here[0].values else ()
    mends = [f"Choose {name}={' or '.join(words)}" if words else f"Leave {name} out", *(f"@{runtime}" for runtime in able)]
    return Obstacle(
        f"{situation.runtime} has no {shown} for {'' if mode == 'auto' else f'{mode} '}{format} of a {card.task.label.lower()}.",
        f"{', or choose '.join([mends[0], ' or '.join(mends[1:])]) if able else mends[0]}.",
    )


def unsupported_reason(situation: Situation, format: str, mode: str) -> Obstacle | None:
    """Why this runtime cannot realise the format for this model here, or None."""
    if format == "fp8" and TechniqueId("gpu") not in situation.chosen:
        return Obstacle(
            "Only GPUs multiply fp8, from NVIDIA's Ada and Hopper and AMD's CDNA 3 on.",
            "Add +gpu() on a host that has one, or +gpu(device=h100) to project it.",
        )
    covering = [s for s in SUPPORT if s.format == format and s.covers(situation.card)]
    rows = [s for s in covering if s.runtime is situation.runtime]
    if not rows:
        able = sorted({str(s.runtime) for s in covering if s.fits(situation.host)})
        return Obstacle(
            f"{situation.runtime} has no {format} for a {situation.task.label.lower()}.",
            f"Choose @{' or @'.join(able)}." if able else "Choose another format.",
        )
    # a GPU has the arithmetic that the processor lacks
    placed = TechniqueId("gpu") in situation.chosen and bool(situation.host.device_runtimes)
    fitting = [row for row in rows if placed or row.fits(situation.host)]
    asked = [row for row in rows if mode in ("auto", *row.modes)]
    lacking = next((row.needs for row in asked if row.needs), "")
    if asked and lacking and not any(row in fitting for row in asked):
        return Obstacle(
            f"{situation.runtime} needs {_NEEDS[lacking]} for {format}, which {situation.host.cpu or 'this host'} lacks.",
            "Choose another mode." if fitting else "Choose format=int8, or run it on a newer host.",
        )
    modes = {m for row in fitting for m in row.modes}
    if mode != "auto" and mode not in modes:
        return Obstacle(
            f"{situation.runtime} has no {mode} {format} for a {situation.task.label.lower()}.",
            f"Choose mode={' or mode='.join(sorted(modes))}.",
        )
    return None
