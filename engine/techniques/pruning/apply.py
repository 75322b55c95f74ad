"""Pruning: loads the variant, removes what matters least, writes a new variant, reads back what changed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.domain.deployment import Applied, Deployment, Variant
from engine.domain.errors import NothingChanged
from engine.domain.experiment import LOSS_CURVE, SENSITIVITY, Attachment, Progress, StageFacts
from engine.domain.ports import Context
from engine.surgery.ffn import feed_forwards
from engine.surgery.firstorder import first_order
from engine.surgery.importance import Evidence, Moments, observe
from engine.surgery.matrices import has_bias, products_fit, sizes
from engine.surgery.shapes import Shape, compare, macs_of, shape_of_file, shape_of_module
from engine.surgery.statistics import recalibrate
from engine.tasks.loading import WEIGHTS, load_module, save_variant
from engine.tasks.traceable import Traceable
from engine.techniques.pruning.cutting import (
    Attributes,
    Channels,
    Heads,
    Layers,
    Neurons,
    Shares,
    Target,
    demand_places,
    least_everywhere,
)
from engine.techniques.pruning.masks import mask_two_of_four, mask_weights, maskable
from engine.techniques.pruning.sensitivity import scan
from engine.techniques.pruning.sparsegpt import sparsify
from engine.techniques.pruning.spec import SPEC, Importance, Kind, PruningConfig, PruningTarget, Ratios
from engine.training.distil import Course, Taught, distil
from engine.training.observed import observed

STILL_DENSE = "Masks are still dense: the matrices keep their shape, so no speedup is expected."
TWO_OF_FOUR = "Two of every four weights of the linear layers are zero; the GPU's sparse tensor cores skip them in bf16 and fp16."
NOT_RECOVERED = "Nothing was trained after the cut: expect the quality to suffer, and choose recover=true if it does."


class Pruning:
    """Calibration data decides what matters, labels are not needed; recovery trains towards the uncut model."""

    spec = SPEC

    def apply(self, deployment: Deployment, config: PruningConfig, context: Context) -> Applied:
        """A smaller (structured) or sparser (unstructured) variant in `context.scratch`.

        Raises StageError when the model has nothing of the kind to remove, NothingChanged
        when the written file holds what was there before.
        """
        began = time.perf_counter()
        module = load_module(deployment.variant, deployment.card)
        before = shape_of_module(module)
        example = tuple(torch.from_numpy(context.calibration[0][name][:1]) for name in module.inputs)
        macs = macs_of(module, example)
        work = _Work(module, deployment, config, context, example)
        work.run()
        variant = save_variant(module, context.scratch, work.attributes, deployment.variant)
        written = shape_of_file(Path(variant.directory) / WEIGHTS, before)
        facts = compare(before, written) | {"target": work.target, "importance": str(config.importance)}
        facts |= {"macs_before": macs, "macs_after": macs_of(module, example)} | work.facts
        _demand_change(before, written, config)
        stage = StageFacts(self.spec.id, time.perf_counter() - began, facts, tuple(work.remarks), work.attachments())
        return Applied(deployment.with_(variant=variant), stage)

    def reshape(self, deployment: Deployment, config: PruningConfig, context: Context) -> Variant:
        """What is left after the cut, not recovered."""
        return self.apply(deployment, replace(config, recover=False), context).deployment.variant


class _Work:
    """One model being cut, round by round; what came of it gathers in `attributes`, `facts` and `remarks`."""

    def __init__(
        self, module: Traceable, deployment: Deployment, config: PruningConfig, context: Context, example: tuple[Tensor, ...]
    ) -> None:
        self._module, self._deployment, self._config, self._context, self._example = module, deployment, config, context, example
        self.target = _target(config, module)
        self.attributes: Attributes = {}
        self.facts: dict[str, float | int | str | bool] = {}
        self.remarks: list[str] = []
        self._sensitivity: dict[str, Any] | None = None
        self._curves: list[dict[str, Any]] = []

    def run(self) -> None:
        if self.target == "weights":
            self._mask()
            self.remarks.append(TWO_OF_FOUR if self._config.kind is Kind.SEMI_STRUCTURED else STILL_DENSE)
            return
        for index in range(self._config.rounds):
            self._cut(self._config.share_of_a_round)
            if self._config.recover:
                self._recover(index)
        if not self._config.recover:
            self.remarks.append(NOT_RECOVERED)

    def attachments(self) -> tuple[Attachment, ...]:
        """The recovery's curves and the scan, where there were any."""
        found = [Attachment(LOSS_CURVE, self._curves)] if self._curves else []
        return tuple(found + ([Attachment(SENSITIVITY, self._sensitivity)] if self._sensitivity else []))

    def _cut(self, share: float) -> None:
        module = self._module
        target = self._target_of()
        places = target.places(module)
        demand_places(module, self.target, places)
        evidence = self._evidence(places) if not isinstance(target, Layers) else Evidence()
        shares = self._shares(target, share, evidence)
        with torch.no_grad():
            changed = target.cut(module, shares, evidence, self._example)
        self.attributes |= changed
        if isinstance(target, Channels) and (layers := recalibrate(module, self._context.calibration)):
            self.facts["batch_norms_recalibrated"] = layers

    def _shares(self, target: Target, share: float, evidence: Evidence) -> Shares:
        if self._config.ratios is Ratios.EQUAL or isinstance(target, (Channels, Layers)):
            return share
        scores = target.scores(self._module, evidence)
        if self._config.ratios is Ratios.GLOBAL:
            return least_everywhere(scores, share)
        found = scan(
            self._module, scores, evidence, self._context.calibration, self._deployment.card.task,
            lambda done: self._context.report(Progress("Scanning each layer's sensitivity", 0.5 + 0.3 * done)),
        )  # fmt: skip
        proposed = found.proposal(share)
        self._sensitivity = self._sensitivity or found.data(proposed)
        self.facts |= {"least_share": min(proposed.values()), "largest_share": max(proposed.values())}
        return proposed

    def _recover(self, index: int) -> None:
        config, context = self._config, self._context
        course = Course(minutes=config.minutes / config.rounds, steps=config.steps, sentences=config.sentences)
        checkpoints = context.checkpoints / f"round-{index + 1}" if context.checkpoints else None
        title = "Recovery" if config.rounds == 1 else f"Recovery, round {index + 1} of {config.rounds}"
        taught: Taught = distil(
            self._module, self._deployment, replace(context, checkpoints=checkpoints), course, title=title, start=0.3
        )
        self.facts |= taught.facts
        self.remarks[:] = taught.remarks
        self._curves.append(taught.curve)

    def _mask(self) -> None:
        module, config = self._module, self._config
        paths = maskable(module.model)
        demand_places(module, self.target, paths)
        if config.importance is Importance.SPARSEGPT:
            sparsify(module, paths, config.sparsity, self._context.calibration, self._observing)
            return
        moments = self._evidence(paths).moments
        with torch.no_grad():
            if config.kind is Kind.SEMI_STRUCTURED:
                mask_two_of_four(module.model, moments)
            else:
                mask_weights(module.model, config.sparsity, moments)

    def _evidence(self, places: Sequence[str]) -> Evidence:
        context, card = self._context, self._deployment.card
        match self._config.importance:
            case Importance.MAGNITUDE:
                return Evidence()
            case Importance.TAYLOR:
                moments = self._moments(places)
                made_up = places if self.target in ("ffn", "heads") else ()
                averages = {path: moments[path].mean for path in made_up if has_bias(self._module.model.get_submodule(path))}
                return Evidence(moments, first_order(self._module, places, context.calibration, card.task, self._observing, averages))
            case _:
                return Evidence(self._moments(places))

    def _moments(self, places: Sequence[str]) -> Mapping[str, Moments]:
        module = self._module
        if self.target not in ("ffn", "heads"):
            return observe(module, places, self._context.calibration, self._observing)
        fit = products_fit(sizes(module.model.get_submodule(path))[0] for path in places)
        return observe(module, places, observed(self._deployment, self._context, self._config.sentences), self._observing, products=fit)

    def _observing(self, share: float) -> None:
        self._context.report(Progress("Observing activations", 0.1 + 0.2 * share))

    def _target_of(self) -> Target:
        known: dict[str, Target] = {
            "ffn": Neurons(), "heads": Heads(), "layers": Layers(), "channels": Channels(self._config.ratios is Ratios.GLOBAL),
        }  # fmt: skip
        return known[self.target]


def _target(config: PruningConfig, module: Traceable) -> str:
    """What is removed: `ffn`, `heads`, `channels`, `layers` or single `weights`."""
    if config.kind is not Kind.STRUCTURED:
        return "weights"
    if config.target is not PruningTarget.AUTO:
        return str(config.target)
    return "ffn" if feed_forwards(module.model) else "channels"


def _demand_change(before: Shape, after: Shape, config: PruningConfig) -> None:
    if config.kind is Kind.STRUCTURED and after.parameters >= before.parameters:
        raise NothingChanged(
            f"All {before.parameters} parameters are still there.",
            mend="Choose a higher sparsity or another target.",
        )
    if config.kind is not Kind.STRUCTURED and after.zeros <= before.zeros:
        raise NothingChanged("No weight became zero.", mend="Choose a higher sparsity.")
