"""A student learns to answer as its teacher does: the one place where Speedrail trains.

Used by distillation, and by pruning to recover what was lost. The teacher is the
artifact as it was uploaded.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from engine.domain.artifact import ModelCard, TaskId
from engine.domain.deployment import Deployment, Variant
from engine.domain.errors import StageError
from engine.domain.experiment import Progress
from engine.domain.ports import Context, Material
from engine.host import this_host
from engine.surgery.heads import attentions
from engine.surgery.layers import layer_paths, stage_paths
from engine.tasks.loading import load_module
from engine.tasks.text_encoder import pooling_of
from engine.tasks.traceable import Traceable
from engine.training.checkpoint import Checkpoint, Position
from engine.training.lessons import Lessons, lessons_for, text_length
from engine.training.objectives import Weights, objective_for
from engine.training.seen import Watched
from engine.training.teacher import Teacher
from engine.training.trainer import Pace, Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a student is taught. Zero lets the task choose."""

    minutes: float = 10.0
    steps: int = 0
    learning_rate: float = 0.0
    batch_size: int = 0
    sentences: int = 40_000
    """Added to given texts from the documentation of installed packages."""
    weights: Weights = Weights()


@dataclass(frozen=True, slots=True)
class Taught:
    """What training did, as facts, remarks and an entry of a `loss_curve`."""

    facts: dict[str, float | int | str | bool]
    remarks: tuple[str, ...]
    curve: dict[str, Any]


def distil(student: Traceable, deployment: Deployment, context: Context, course: Course, *, title: str, start: float) -> Taught:
    """Train `student` in place, at most `course.minutes`, from `start` of the stage's progress on. title: of its curve.

    With `context.checkpoints` a killed training goes on where it was. Raises StageError
    when the student does not fit its teacher, the data are too few, or nothing was gained
    before the loss or the memory gave out.
    """
    torch.set_num_threads(context.threads or this_host().cores)
    torch.manual_seed(0)
    checkpoint = Checkpoint(context.checkpoints, _fingerprint(student, course))
    card, original = deployment.card, context.original or deployment.variant
    objective = objective_for(card.task, course.weights, pooling_of(Path(original.directory)))
    if done := checkpoint.finished():
        student.load_state_dict(done[1], strict=False)
        return _taught(done[0], objective.metric, title)
    teacher = load_module(original, card)
    ours, theirs = _places(student, teacher, course.weights)
    lessons = _lessons(deployment, original, context, course, student)
    watched = Watched(student, *ours)
    master = Watched(teacher, *theirs)
    _demand_fit(watched, master, lessons)

    def say(position: Position, used: float) -> None:
        best = position.best
        shown = f", held-out {objective.metric} {best.quality:.3f}" if best else ""
        left = max(60 * course.minutes - position.seconds, 0) if not course.steps else None
        context.report(Progress(f"Training: step {position.step}{shown}", start + (0.98 - start) * min(used, 1.0), left))

    trainer = Trainer(
        watched, Teacher(master, objective, lessons.train), Teacher(master, objective, lessons.held),
        lessons.train, lessons.held, objective, _pace(course, card, student),
        checkpoint, say,
    )  # fmt: skip
    trainer.position.sources = lessons.sources
    return _taught(trainer.run(), objective.metric, title)


def _places(student: Traceable, teacher: Traceable, weights: Weights) -> tuple[tuple[list[str], list[str]], tuple[list[str], list[str]]]:
    """Of student and teacher: paths of hidden states, and of attention maps, that are held against each other.

    Student layer m of M imitates teacher layer m·N/M, rounded up (TinyBERT's uniform mapping).
    """
    ours, theirs = layer_paths(student.model), layer_paths(teacher.model)
    if not ours or not theirs:
        stages = [stage_paths(side.model) for side in (student, teacher)]
        as_wide = weights.hidden and len(stages[0]) == len(stages[1]) and _as_wide(student, teacher)
        return ((stages[0], []), (stages[1], [])) if as_wide else (([], []), ([], []))
    mapped = [math.ceil((place + 1) * len(theirs) / len(ours)) - 1 for place in range(len(ours))]
    hidden: tuple[list[str], list[str]] = (ours, [theirs[m] for m in mapped]) if weights.hidden else ([], [])
    cores = [[block.core for block in attentions(side.model)] for side in (student, teacher)]
    if not weights.attention or [len(c) for c in cores] != [len(ours), len(theirs)]:
        return (hidden[0], []), (hidden[1], [])
    return (hidden[0], cores[0]), (hidden[1], [cores[1][m] for m in mapped])


def _as_wide(student: Traceable, teacher: Traceable) -> bool:
    """Whether a CNN's stages still have the teacher's channels: those that both have are of one size."""
    sizes = {name: p.shape for name, p in teacher.named_parameters()}
    return all(p.shape == sizes.get(name, p.shape) for name, p in student.named_parameters())


def _lessons(deployment: Deployment, original: Variant, context: Context, course: Course, student: Traceable) -> Lessons:
    card = deployment.card
    context.report(Progress("Reading what to train on", 0.05))
    return lessons_for(
        card, Path(original.directory), context.material or Material(), batch_size=course.batch_size or _batch_size(card),
        length=text_length(card, deployment.workload), extra=course.sentences, image_size=deployment.workload.image_size,
    )  # fmt: skip


def _batch_size(card: ModelCard) -> int:
    return {TaskId.CAUSAL_LM: 4, TaskId.IMAGE_CLASSIFIER: 64}.get(card.task, 16)


def _pace(course: Course, card: ModelCard, student: Traceable) -> Pace:
    """bf16 only where the host computes in it: elsewhere it is emulated and slower."""
    usual = {TaskId.TEXT_ENCODER: 5e-4, TaskId.TEXT_CLASSIFIER: 2e-4, TaskId.CAUSAL_LM: 1e-4}.get(card.task, 3e-4)
    if not layer_paths(student.model):
        usual = 2e-3
    return Pace(
        seconds=60 * course.minutes, steps=course.steps, learning_rate=course.learning_rate or usual, adapts=not course.learning_rate,
        bf16=this_host().has_bf16,
    )  # fmt: skip


def _demand_fit(student: Watched, teacher: Watched, lessons: Lessons) -> None:
    """Raises StageError when the two do not answer alike: other outputs, or hidden states of another size."""
    one = {name: tensor[:1] for name, tensor in lessons.held[0].items()}
    with torch.no_grad():
        ours, theirs = student(one), teacher(one)
    for name, output in ours.outputs.items():
        if output.shape != theirs.outputs[name].shape:
            raise StageError(
                f"The student does not fit its teacher: its {name} are {tuple(output.shape)}, the teacher's {tuple(theirs.outputs[name].shape)}.",
                mend="Give a student with the teacher's outputs.",
            )
    if [h.shape for h in ours.hidden] != [h.shape for h in theirs.hidden]:
        raise StageError(
            f"The student does not fit its teacher: its hidden states are {ours.hidden[0].shape[-1]} wide, "
            f"the teacher's {theirs.hidden[0].shape[-1]}.",
            mend="Choose hidden_weight=0.",
        )


def _fingerprint(student: Traceable, course: Course) -> str:
    shapes = {name: list(p.shape) for name, p in student.named_parameters()}
    return hashlib.sha256(json.dumps([shapes, asdict(course)], sort_keys=True).encode()).hexdigest()


def _taught(position: Position, metric: str, title: str) -> Taught:
    first, best = position.curve[0], position.best
    assert best is not None
    facts: dict[str, float | int | str | bool] = {
        "training_steps": position.step, "training_seconds": round(position.seconds, 1),
        "training_cpu_seconds": round(position.cpu_seconds, 1), "held_out_metric": metric,
        "held_out_before": round(first.quality, 6), "held_out_after": round(best.quality, 6),
        "training_ended": position.ended, **position.sources,
    }  # fmt: skip
    remarks = [f"Training ended: {position.ended}."]
    if best.step == 0:
        remarks.append("Training brought no gain on the held-out part: the student is as it began.")
    curve = {"title": title, "metric": metric, "ended": position.ended, "points": [asdict(point) for point in position.curve]}
    return Taught(facts, tuple(remarks), curve)
