"""Which number formats each runtime realises for which task, as data."""

from __future__ import annotations

from dataclasses import dataclass

from engine.domain.artifact import TaskId
from engine.domain.recipe import RuntimeId
from engine.domain.technique import Obstacle, Situation

TRANSFORMERS = frozenset({TaskId.CAUSAL_LM, TaskId.TEXT_ENCODER, TaskId.TEXT_CLASSIFIER})
EVERY_TASK = frozenset(TaskId)


@dataclass(frozen=True, slots=True)
class Support:
    """A runtime realises `format` in `modes` for `tasks`. The first mode is what auto takes."""

    runtime: RuntimeId
    format: str
    tasks: frozenset[TaskId]
    modes: tuple[str, ...]


SUPPORT: tuple[Support, ...] = (
    Support(RuntimeId.EAGER, "bf16", EVERY_TASK, ("auto",)),
    Support(RuntimeId.EAGER, "int8", TRANSFORMERS, ("dynamic",)),
    Support(RuntimeId.INDUCTOR, "bf16", EVERY_TASK, ("auto",)),
    Support(RuntimeId.INDUCTOR, "int8", TRANSFORMERS, ("dynamic", "weight_only")),
    Support(RuntimeId.ONNXRUNTIME, "int8", EVERY_TASK, ("dynamic", "static")),
    Support(RuntimeId.OPENVINO, "int8", EVERY_TASK, ("static",)),
    Support(RuntimeId.OPENVINO, "int8", frozenset({TaskId.CAUSAL_LM}), ("weight_only",)),
    Support(RuntimeId.OPENVINO, "int4", frozenset({TaskId.CAUSAL_LM}), ("weight_only",)),
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
    modes = {m for row in rows for m in row.modes}
    if mode != "auto" and mode not in modes:
        return Obstacle(
            f"{situation.runtime} has no {mode} {format} for a {situation.task.label.lower()}.",
            f"Choose mode={' or mode='.join(sorted(modes))}.",
        )
    return None
