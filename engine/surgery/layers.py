"""Takes whole layers out of a transformer's stack, and whole blocks out of a CNN's stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from engine.domain.errors import StageError
from engine.surgery.sizes import layers_kept


@dataclass(frozen=True, slots=True)
class Stack:
    """The repeated layers of a model: where they are, and how many."""

    path: str
    count: int


def stack_of(model: Any) -> Stack | None:
    """The list of layers that config.json counts, or None where a model has none."""
    count = getattr(model.config, "num_hidden_layers", None)
    for path, module in model.named_modules():
        alike = isinstance(module, nn.ModuleList) and len({type(layer) for layer in module}) == 1
        if alike and len(module) == count:
            return Stack(path, len(module))
    return None


def layer_paths(model: Any) -> list[str]:
    """Each layer of the stack; empty where there is none."""
    stack = stack_of(model)
    return [f"{stack.path}.{index}" for index in range(stack.count)] if stack else []


def stage_paths(model: Any) -> list[str]:
    """The stages of a CNN that config.json gives depths for (ResNet, ConvNeXt), each with a list of `layers`."""
    depths = getattr(model.config, "depths", None) or ()
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and path.endswith("stages") and len(module) == len(depths):
            blocks = [getattr(stage, "layers", None) for stage in module]
            if all(isinstance(b, nn.Sequential | nn.ModuleList) and len(b) == d for b, d in zip(blocks, depths, strict=True)):
                return [f"{path}.{index}" for index in range(len(module))]
    return []


def shorten_stages(model: Any, share: float) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Keep the share of each stage's blocks, its first (which changes the size) always; the depths before and after.

    A block adds to what passes it by, so that its neighbours still fit each other without it.
    """
    paths = stage_paths(model)
    before = tuple(model.config.depths)
    for path in paths:
        stage: Any = model.get_submodule(path)
        count = len(stage.layers)
        kept = [stage.layers[place] for place in spread_over(count, layers_kept(count, share))]
        stage.layers = nn.Sequential(*kept) if isinstance(stage.layers, nn.Sequential) else nn.ModuleList(kept)
    model.config.depths = [len(model.get_submodule(path).layers) for path in paths]
    return before, tuple(model.config.depths)


def spread_over(count: int, kept: int) -> tuple[int, ...]:
    """`kept` of `count` layers, the first and the last among them, evenly spread.

    6 of 12 are 0, 2, 4, 7, 9, 11: those DistilBERT was made of (arXiv:1910.01108).
    """
    return tuple(int(place) for place in np.linspace(0, count - 1, kept).round())


def keep_layers(model: Any, kept: Sequence[int]) -> None:
    """Drop every layer of the stack that is not in `kept` (ascending); the config follows.

    Raises StageError when the model has no stack of layers.
    """
    stack = stack_of(model)
    if stack is None:
        raise StageError(
            f"A {type(model).__name__} has no stack of equal layers.", mend="Choose another target, or narrow its width."
        )
    layers: Any = model.get_submodule(stack.path)
    parent, _, name = stack.path.rpartition(".")
    chosen = nn.ModuleList([layers[index] for index in kept])
    for place, layer in enumerate(chosen):
        for module in layer.modules():
            if isinstance(getattr(module, "layer_idx", None), int):
                setattr(module, "layer_idx", place)  # noqa: B010 (where its keys and values are in the cache)
    setattr(model.get_submodule(parent), name, chosen)
    model.config.num_hidden_layers = len(chosen)
    kinds = getattr(model.config, "layer_types", None)
    if isinstance(kinds, list) and len(kinds) == stack.count:
        model.config.layer_types = [kinds[index] for index in kept]
