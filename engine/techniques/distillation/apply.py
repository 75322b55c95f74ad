"""Distillation: takes a student of the model's own layers, or an uploaded one, trains it, writes it, reads back what it is."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.domain.artifact import ModelCard
from engine.domain.deployment import Applied, Deployment, Variant
from engine.domain.errors import NothingChanged, StageError
from engine.domain.experiment import LOSS_CURVE, Attachment, Progress, StageFacts
from engine.domain.ports import Context
from engine.surgery.channels import prune_channels, readers
from engine.surgery.ffn import feed_forwards, prune_ffn
from engine.surgery.importance import Evidence, observe
from engine.surgery.layers import keep_layers, shorten_stages, spread_over, stack_of, stage_paths
from engine.surgery.matrices import products_fit, sizes
from engine.surgery.shapes import compare, macs_of, shape_of_file, shape_of_module
from engine.surgery.sizes import layers_kept
from engine.tasks.loading import WEIGHTS, load_module, save_variant
from engine.tasks.traceable import Traceable
from engine.techniques.distillation.spec import SPEC, DistillationConfig
from engine.training.distil import Course, distil
from engine.training.objectives import Weights
from engine.training.observed import observed

Attributes = dict[str, dict[str, Any]]


class Distillation:
    """A student that is made here starts from the teacher's weights: layers evenly spread (DistilBERT), the neurons that matter most."""

    spec = SPEC

    def apply(self, deployment: Deployment, config: DistillationConfig, context: Context) -> Applied:
        """A trained student in `context.scratch`.

        Raises StageError when the model has nothing to make a student of or training
        fails before any gain, NothingChanged when the student is as large as the teacher.
        """
        began = time.perf_counter()
        teacher = load_module(deployment.variant, deployment.card)
        example = tuple(torch.from_numpy(context.calibration[0][name][:1]) for name in teacher.inputs)
        before, macs = shape_of_module(teacher), macs_of(teacher, example)
        student = _student(teacher, deployment, config, context, example)
        like = shape_of_module(student.module) if config.student else before
        taught = distil(student.module, deployment, context, _course(config), title="Distillation", start=0.2)
        variant = save_variant(student.module, context.scratch, student.attributes, student.origin)
        written = shape_of_file(Path(variant.directory) / WEIGHTS, like)
        if written.parameters >= before.parameters:
            raise NothingChanged("The student is as large as its teacher.", mend="Choose fewer layers or a smaller width.")
        facts = compare(before, written) | student.facts | {"macs_before": macs, "macs_after": macs_of(student.module, example)} | taught.facts
        curve = Attachment(LOSS_CURVE, [taught.curve])
        stage = StageFacts(self.spec.id, time.perf_counter() - began, facts, taught.remarks, (curve,))
        return Applied(deployment.with_(card=student.card, variant=variant), stage)

    def reshape(self, deployment: Deployment, config: DistillationConfig, context: Context) -> Variant:
        """The student before its training."""
        teacher = load_module(deployment.variant, deployment.card)
        example = tuple(torch.from_numpy(context.calibration[0][name][:1]) for name in teacher.inputs)
        student = _student(teacher, deployment, config, context, example)
        return save_variant(student.module, context.scratch, student.attributes, student.origin)


@dataclass(frozen=True, slots=True)
class _Student:
    """What is about to learn. origin: the files it comes from; attributes: what cutting changed on its modules."""

    module: Traceable
    card: ModelCard
    origin: Variant
    attributes: Attributes
    facts: dict[str, float | int | str | bool]


def _student(
    teacher: Traceable, deployment: Deployment, config: DistillationConfig, context: Context, example: tuple[torch.Tensor, ...]
) -> _Student:
    """The uploaded student, or `teacher` cut in place. Raises StageError when the two do not read the same words."""
    if not config.student:
        attributes = _narrow(teacher, deployment, config, context, example)
        return _Student(teacher, deployment.card, deployment.variant, attributes, _shorten(teacher, config))
    other = context.models[config.student]
    _demand_same_words(Path(other.directory), Path(deployment.variant.directory))
    origin = Variant(other.directory)
    return _Student(load_module(origin, other.card), other.card, origin, {}, {"student": config.student, "student_architecture": other.card.architecture})


def _demand_same_words(student: Path, teacher: Path) -> None:
    files = [directory / "tokenizer.json" for directory in (student, teacher)]
    if not all(file.is_file() for file in files):
        return
    words = [json.loads(file.read_text(encoding="utf-8"))["model"].get("vocab") for file in files]
    if words[0] != words[1]:
        raise StageError("The student's tokenizer has other words than the model's.", mend="Choose a student with the same tokenizer.json.")


def _narrow(
    module: Traceable, deployment: Deployment, config: DistillationConfig, context: Context, example: tuple[torch.Tensor, ...]
) -> Attributes:
    """Cut every layer's inner width to the share asked for; the attributes that follow."""
    if config.width == 1.0:
        return {}
    blocks = feed_forwards(module.model)
    paths = [block.reader for block in blocks] or readers(module.model)
    moments = observe(
        module, paths, observed(deployment, context, config.sentences) if blocks else context.calibration,
        lambda share: context.report(Progress("Observing activations", 0.05 + 0.1 * share)),
        products=bool(blocks) and products_fit(sizes(module.model.get_submodule(path))[0] for path in paths),
    )  # fmt: skip
    with torch.no_grad():
        if blocks:
            return prune_ffn(module.model, 1 - config.width, Evidence(moments))[0]
        prune_channels(module, 1 - config.width, Evidence(moments), example)
        return {}


def _shorten(module: Traceable, config: DistillationConfig) -> dict[str, float | int | str | bool]:
    """Drop layers evenly; which stayed, as facts."""
    if config.layers == 1.0:
        return {}
    if stage_paths(module.model):
        before, after = shorten_stages(module.model, config.layers)
        return {"layers_before": sum(before), "layers_after": sum(after), "depths_after": ", ".join(map(str, after))}
    stack = stack_of(module.model)
    if stack is None:
        raise StageError(
            f"A {type(module.model).__name__} has no stack of equal layers to drop.", mend="Choose layers=1.0 and a width below 1."
        )
    kept = spread_over(stack.count, layers_kept(stack.count, config.layers))
    keep_layers(module.model, kept)
    return {"layers_kept": ", ".join(map(str, kept))}


def _course(config: DistillationConfig) -> Course:
    return Course(
        minutes=config.minutes, steps=config.steps, learning_rate=config.learning_rate, batch_size=config.batch_size,
        sentences=config.sentences,
        weights=Weights(
            hidden=config.hidden_weight, attention=config.attention_weight, labels=config.label_weight, temperature=config.temperature
        ),
    )  # fmt: skip
