"""A module without the weights that the array holds: they are in integers.npz, not once more in fp32."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.tasks.loading import WEIGHTS

_PLACES = "array_weights.json"


def drop_weights(directory: Path, names: Sequence[str]) -> None:
    """Take these tensors out of the variant's file; their shapes stay in a file beside it."""
    tensors = load_file(directory / WEIGHTS)
    taken = {name: list(tensors.pop(name).shape) for name in names if name in tensors}
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    (directory / _PLACES).write_text(json.dumps(taken))


def without_weights(model: nn.Module, tensors: dict[str, Tensor], directory: Path) -> bool:
    """For `load_module`: what the array holds is a shape only, one zero seen through it."""
    shapes: dict[str, list[int]] = json.loads((directory / _PLACES).read_text())
    tensors |= {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    return False
