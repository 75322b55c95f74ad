"""Which number formats each runtime realises for which task, as data."""

from __future__ import annotations

from dataclasses import dataclass

from engine.domain.artifact import TaskId
from engine.domain.host import HostFacts
from engine.domain.recipe import RuntimeId
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
    """What the processor must have: `vnni` or `bf16`."""

    def fits(self, host: HostFacts) -> bool:
        return {"": True, "vnni": host.has_vnni, "bf16": host.has_bf16}[self.needs]


_NEEDS = {"vnni": "native int8 dot products (VNNI)", "bf16": "native bf16 arithmetic"}

SUPPORT: tuple[Support, ...] = (
    Support(RuntimeId.EAGER, "bf16", MODULES, ("auto",)),
    Support(RuntimeId.EAGER, "int8", TEXTS, ("dynamic", "weight_only")),
    Support(RuntimeId.EAGER, "int8", CAUSAL, ("weight_only", "dynamic")),
    Support(RuntimeId.EAGER, "int4", CAUSAL, ("weight_only",)),
    Support(RuntimeId.INDUCTOR, "bf16", MODULES, ("auto",)),
    Support(RuntimeId.INDUCTOR, "int8", TEXTS, ("dynamic", "weight_only")),
    Support(RuntimeId.INDUCTOR, "int8", CAUSAL, ("weight_only", "dynamic")),
    Support(RuntimeId.INDUCTOR, "int4", CAUSAL, ("weight_only",)),
    Support(RuntimeId.ONNXRUNTIME, "int8", TEXTS, ("dynamic", "static")),
    Support(RuntimeId.ONNXRUNTIME, "int8", TENSORS, ("static", "dynamic")),
    Support(RuntimeId.ONNXRUNTIME, "int8", CAUSAL, ("dynamic", "weight_only")),
    Support(RuntimeId.ONNXRUNTIME, "int4", CAUSAL, ("dynamic", "weight_only")),
    Support(RuntimeId.OPENVINO, "bf16", EVERY_TASK, ("auto",), needs="bf16"),
    Support(RuntimeId.OPENVINO, "int8", EVERY_TASK - CAUSAL, ("static", "weight_only")),
    Support(RuntimeId.OPENVINO, "int8", CAUSAL, ("dynamic",), needs="vnni"),
    Support(RuntimeId.OPENVINO, "int8", CAUSAL, ("weight_only",)),
    Support(RuntimeId.OPENVINO, "int4", CAUSAL, ("dynamic",), needs="vnni"),
    Support(RuntimeId.OPENVINO, "int4", CAUSAL, ("weight_only",)),
)


def unsupported_reason(situation: Situation, format: str, mode: str) -> Obstacle | None:
    """Why this runtime cannot realise the format for this model here, or None."""
    rows = [s for s in SUPPORT if s.runtime is situation.runtime and s.format == format and situation.task in s.tasks]
    if not rows:
        able = sorted({str(s.runtime) for s in SUPPORT if s.format == format and situation.task in s.tasks})
        return Obstacle(
            f"{situation.runtime} has no {format} for a {situation.task.label.lower()}.",
            f"Choose @{' or @'.join(able)}." if able else "Choose another format.",
        )
    fitting = [row for row in rows if row.fits(situation.host)]
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
