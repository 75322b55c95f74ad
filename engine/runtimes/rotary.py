"""Rotary position embeddings that onnxruntime's attention operator does itself.

torch exports a rotation as some twenty small operators a layer, a quarter of a small model's time
a token. What transformers rotated is noted here together with what went in, so that the attention
can be given the latter; the exporter then drops the rotation, because nothing reads it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_NAME = "apply_rotary_pos_emb"
_FIXED = ("default", "linear", "llama3", "yarn")
"""Kinds whose angles depend on the position alone, not on the length of the text."""
_HEAD = 16
"""onnxruntime rotates heads whose size is a multiple of this."""

Rotate = Callable[..., tuple[Tensor, Tensor]]


class Rotations:
    """The queries and keys of one call, before and after their rotation, and the tables of the rotation.

    cos, sin: float32 (positions, head size ÷ 2).
    """

    def __init__(self, cos: Tensor, sin: Tensor) -> None:
        self.cos, self.sin = cos, sin
        self._last: tuple[Tensor, ...] = ()

    def note(self, query: Tensor, key: Tensor, rotated_query: Tensor, rotated_key: Tensor) -> None:
        self._last = (query, key, rotated_query, rotated_key)

    def before(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor] | None:
        """What became `query` and `key` by the last rotation and nothing else; None where something else came between."""
        if self._last and query is self._last[2] and key is self._last[3]:
            return self._last[0], self._last[1]
        return None


def rotations_of(model: Any) -> Rotations | None:
    """None where the architecture rotates in another way than onnxruntime does (halves of a head against each other)."""
    embedding = getattr(model.base_model, "rotary_emb", None)
    functions = _functions(model)
    if embedding is None or not functions or getattr(embedding, "rope_type", "default") not in _FIXED:
        return None
    if list(inspect.signature(type(embedding).forward).parameters)[1:] != ["x", "position_ids"]:
        return None  # a rotation for each kind of layer
    positions = torch.arange(model.config.max_position_embeddings)[None]
    with torch.no_grad():
        cos, sin = embedding(torch.zeros(1, 1, 1), positions)
        if cos.shape[-1] % _HEAD or not all(_turns_halves(function, cos[:, :2], sin[:, :2]) for function in functions.values()):
            return None
    half = cos.shape[-1] // 2
    return Rotations(cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous())


@contextmanager
def noted(model: Any, rotations: Rotations) -> Iterator[None]:
    """While open, `rotations` notes every rotation that `model` does."""
    functions = _functions(model)

    def noting(original: Rotate) -> Rotate:
        def rotate(query: Tensor, key: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
            turned = original(query, key, *args, **options)
            rotations.note(query, key, *turned)
            return turned

        return rotate

    for module, function in functions.items():
        setattr(sys.modules[module], _NAME, noting(function))
    try:
        yield
    finally:
        for module, function in functions.items():
            setattr(sys.modules[module], _NAME, function)


def _functions(model: Any) -> dict[str, Rotate]:
    """The rotation of each Python module that the model's attention layers come from."""
    modules = {type(module).__module__ for module in model.modules() if hasattr(module, "k_proj")}
    return {name: getattr(sys.modules[name], _NAME) for name in modules if hasattr(sys.modules[name], _NAME)}


def _turns_halves(function: Rotate, cos: Tensor, sin: Tensor) -> bool:
    """Whether `function` turns the first half of a head against the second, over the whole head."""
    states = torch.linspace(-1, 1, 2 * cos.shape[-1]).reshape(1, 1, 2, -1)
    first, second = states.chunk(2, dim=-1)
    try:
        turned, _ = function(states, states, cos, sin)
    except (TypeError, ValueError, RuntimeError):
        return False
    return torch.allclose(turned, states * cos + torch.cat((-second, first), dim=-1) * sin, atol=1e-6)
