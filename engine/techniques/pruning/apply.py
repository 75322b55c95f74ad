"""Pruning: loads the variant, removes what matters least, writes a new variant, reads back what changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from engine.domain.deployment import Applied, Deployment
from engine.domain.errors import NothingChanged, StageError
from engine.domain.experiment import Progress, StageFacts
from engine.domain.ports import Batch, Context
from engine.tasks.loading import WEIGHTS, load_module, save_variant
from engine.tasks.traceable import Traceable
from engine.techniques.pruning.channels import prune_channels, readers
from engine.techniques.pruning.facts import Shape, compare, shape_of_file, shape_of_module
from engine.techniques.pruning.ffn import feed_forwards, prune_ffn
from engine.techniques.pruning.heads import attentions, prune_heads
from engine.techniques.pruning.importance import Moments, observe
from engine.techniques.pruning.masks import mask_weights, maskable
from engine.techniques.pruning.spec import SPEC, Importance, Kind, PruningConfig, PruningTarget

STILL_DENSE = "Masks are still dense: the matrices keep their shape, so no speedup is expected."
Attributes = dict[str, dict[str, Any]]


class Pruning:
    """One shot, no retraining; calibration data decides what matters, labels are not needed."""

    spec = SPEC

    def apply(self, deployment: Deployment, config: PruningConfig, context: Context) -> Applied:
        """A smaller (structured) or sparser (unstructured) variant in `context.scratch`.

        Raises StageError when the model has nothing of the kind to remove, NothingChanged
        when the written file holds what was there before.
        """
        began = time.perf_counter()
        module = load_module(deployment.variant, deployment.card)
        target = _target(config, module)
        before = shape_of_module(module)
        example = _example(module, context.calibration[0])
        macs = _macs(module, example)
        moments = self._moments(module, target, config, context)
        attributes = _prune(module, target, config.sparsity, moments, example)
        variant = save_variant(module, context.scratch, attributes, deployment.variant)
        written = shape_of_file(Path(variant.directory) / WEIGHTS, before)
        facts = compare(before, written) | {"target": str(target), "importance": str(config.importance)}
        facts |= {"macs_before": macs, "macs_after": _macs(module, example)}
        _demand_change(before, written, config)
        remarks = (STILL_DENSE,) if config.kind is Kind.UNSTRUCTURED else ()
        stage = StageFacts(self.spec.id, time.perf_counter() - began, facts, remarks)
        return Applied(deployment.with_(variant=variant), stage)

    def _moments(self, module: Traceable, target: str, config: PruningConfig, context: Context) -> Mapping[str, Moments] | None:
        if config.importance is Importance.MAGNITUDE:
            return None
        observed: Callable[[], Sequence[str]] = {
            "ffn": lambda: [block.reader for block in feed_forwards(module.model)],
            "heads": lambda: [block.output for block in attentions(module.model)],
            "channels": lambda: readers(module.model),
            "weights": lambda: maskable(module.model),
        }[target]

        def progress(share: float) -> None:
            context.report(Progress("Observing activations", 0.1 + 0.7 * share))

        return observe(module, observed(), context.calibration, progress)


def _target(config: PruningConfig, module: Traceable) -> str:
    """What is removed: `ffn`, `heads`, `channels` or single `weights`."""
    if config.kind is Kind.UNSTRUCTURED:
        return "weights"
    if config.target is not PruningTarget.AUTO:
        return str(config.target)
    return "ffn" if feed_forwards(module.model) else "channels"


def _prune(
    module: Traceable, target: str, sparsity: float, moments: Mapping[str, Moments] | None, example: tuple[torch.Tensor, ...]
) -> Attributes:
    """Change the module; the attributes that follow. Raises StageError."""
    with torch.no_grad():
        match target:
            case "ffn":
                attributes, found = prune_ffn(module.model, sparsity, moments)
            case "heads":
                attributes, found = prune_heads(module.model, sparsity, moments)
            case "weights":
                attributes, found = {}, mask_weights(module.model, sparsity, moments)
            case _:
                attributes, found = {}, readers(module.model)
                prune_channels(module, sparsity, moments, example)
    if not found:
        raise StageError(
            f"A {type(module.model).__name__} has no {target} of a shape that is known here.",
            mend="Choose another target, or kind=unstructured.",
        )
    return attributes


def _example(module: Traceable, batch: Batch) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(batch[name][:1]) for name in module.inputs)


def _macs(module: Traceable, example: tuple[torch.Tensor, ...]) -> int:
    """Multiply-accumulates of one item, as PyTorch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*example)
    return int(counter.get_total_flops()) // 2


def _demand_change(before: Shape, after: Shape, config: PruningConfig) -> None:
    if config.kind is Kind.STRUCTURED and after.parameters >= before.parameters:
        raise NothingChanged(
            f"All {before.parameters} parameters are still there.",
            mend="Choose a higher sparsity or another target.",
        )
    if config.kind is Kind.UNSTRUCTURED and after.zeros <= before.zeros:
        raise NothingChanged("No weight became zero.", mend="Choose a higher sparsity.")
