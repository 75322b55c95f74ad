"""What can be cut out of a model, one class a target: what is observed, how much each place loses, the cut itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.domain.errors import StageError
from engine.surgery.channels import prune_channels, readers
from engine.surgery.ffn import feed_forwards, neuron_scores, prune_ffn
from engine.surgery.heads import attentions, head_scores, prune_heads
from engine.surgery.importance import Evidence
from engine.surgery.layers import keep_layers, spread_over, stack_of
from engine.surgery.sizes import layers_kept
from engine.tasks.traceable import Traceable

Attributes = dict[str, dict[str, Any]]
Shares = float | Mapping[str, float]
"""One share for every place, or each place's own, by the path that is observed there."""


class Target(Protocol):
    """`places` are paths of layers whose inputs are what is cut, in the model's order."""

    def places(self, module: Traceable) -> list[str]: ...

    def scores(self, module: Traceable, evidence: Evidence) -> dict[str, Tensor]:
        """How much each unit of each place matters; empty where places cannot be told apart."""
        ...

    def cut(self, module: Traceable, shares: Shares, evidence: Evidence, example: tuple[Tensor, ...]) -> Attributes:
        """Remove the least important; the attributes that follow. Raises StageError."""
        ...


class Neurons:
    """Of feed-forward blocks."""

    def places(self, module: Traceable) -> list[str]:
        return [block.reader for block in feed_forwards(module.model)]

    def scores(self, module: Traceable, evidence: Evidence) -> dict[str, Tensor]:
        return {block.reader: neuron_scores(module.model, block, evidence) for block in feed_forwards(module.model)}

    def cut(self, module: Traceable, shares: Shares, evidence: Evidence, example: tuple[Tensor, ...]) -> Attributes:
        return prune_ffn(module.model, shares, evidence)[0]


class Heads:
    """Of attention, with grouped queries a key-value head and all that read it."""

    def places(self, module: Traceable) -> list[str]:
        return [block.output for block in attentions(module.model) if block.kv_heads > 1]

    def scores(self, module: Traceable, evidence: Evidence) -> dict[str, Tensor]:
        blocks = [block for block in attentions(module.model) if block.kv_heads > 1]
        return {block.output: head_scores(module.model, block, evidence) for block in blocks}

    def cut(self, module: Traceable, shares: Shares, evidence: Evidence, example: tuple[Tensor, ...]) -> Attributes:
        return prune_heads(module.model, shares, evidence)[0]


class Channels:
    """Of convolutions, in groups that only fit each other when cut together."""

    def __init__(self, everywhere: bool) -> None:
        self._everywhere = everywhere

    def places(self, module: Traceable) -> list[str]:
        return readers(module.model)

    def scores(self, module: Traceable, evidence: Evidence) -> dict[str, Tensor]:
        return {}

    def cut(self, module: Traceable, shares: Shares, evidence: Evidence, example: tuple[Tensor, ...]) -> Attributes:
        assert isinstance(shares, float), "channels are cut in groups, which have no shares of their own"
        prune_channels(module, shares, evidence, example, everywhere=self._everywhere)
        return {}


class Layers:
    """Whole layers, evenly spread: what stands between two that stay is close to both."""

    def places(self, module: Traceable) -> list[str]:
        stack = stack_of(module.model)
        return [stack.path] if stack and stack.count > 1 else []

    def scores(self, module: Traceable, evidence: Evidence) -> dict[str, Tensor]:
        return {}

    def cut(self, module: Traceable, shares: Shares, evidence: Evidence, example: tuple[Tensor, ...]) -> Attributes:
        assert isinstance(shares, float)
        stack = stack_of(module.model)
        assert stack is not None
        kept = min(layers_kept(stack.count, 1 - shares), stack.count - 1)
        keep_layers(module.model, spread_over(stack.count, kept))
        return {}


def least_everywhere(scores: Mapping[str, Tensor], sparsity: float, most: float = 0.9) -> dict[str, float]:
    """Shares that remove the least important units of the whole model, none of a place more than `most`.

    Places are made comparable by their own mean and deviation.
    """
    standard = {path: (score - score.mean()) / score.std().clamp_min(1e-12) for path, score in scores.items()}
    every = torch.cat(list(standard.values()))
    gone = torch.zeros(len(every))
    # by rank, not by a border: two units of a place are always equally far from their mean, and a border falls between no ties
    gone[every.argsort(stable=True)[: round(len(every) * sparsity)]] = 1
    parts = torch.split(gone, [len(score) for score in standard.values()])
    return {path: min(float(part.mean()), most) for path, part in zip(standard, parts, strict=True)}


def demand_places(module: Traceable, target: str, places: Sequence[str]) -> None:
    """Raises StageError when there is nothing of the kind."""
    if not places:
        raise StageError(
            f"A {type(module.model).__name__} has no {target} of a shape that is known here.",
            mend="Choose another target, or kind=unstructured.",
        )
