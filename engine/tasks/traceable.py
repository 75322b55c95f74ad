"""Modules whose forward takes tensors by position and returns a tuple: what every exporter accepts.

The parameter names of `forward` are the card's input names, so that exported graphs
carry them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from engine.domain.artifact import ModelCard
from engine.domain.errors import StageError


class Traceable(nn.Module):
    """A Hugging Face model behind a plain face.

    `forward(*tensors in inputs order) -> tuple(tensors in outputs order)`; `model` is
    the model itself (its KV cache and generation are the runtimes' to use).
    """

    inputs: tuple[str, ...]

    def __init__(self, model: nn.Module, outputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.outputs = tuple(outputs)

    def _answer(self, **tensors: Tensor) -> tuple[Tensor, ...]:
        answer: Any = self.model(**tensors, return_dict=True)
        return tuple(answer[name] for name in self.outputs)


class TextTraceable(Traceable):
    """Texts: `input_ids` and `attention_mask`, int64 (batch, sequence)."""

    inputs = ("input_ids", "attention_mask")

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        return self._answer(input_ids=input_ids, attention_mask=attention_mask)


class TypedTextTraceable(Traceable):
    """Texts with segment ids, int64 (batch, sequence) each."""

    inputs = ("input_ids", "attention_mask", "token_type_ids")

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, ...]:
        return self._answer(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)


class TokensTraceable(Traceable):
    """A causal LM without a cache: `input_ids`, int64 (batch, sequence), no padding."""

    inputs = ("input_ids",)

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        answer: Any = self.model(input_ids=input_ids, use_cache=False, return_dict=True)
        return tuple(answer[name] for name in self.outputs)


class ImageTraceable(Traceable):
    """Images: `pixel_values`, float32 (batch, channels, height, width)."""

    inputs = ("pixel_values",)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        return self._answer(pixel_values=pixel_values)


_BY_INPUTS: dict[tuple[str, ...], type[Traceable]] = {
    kind.inputs: kind for kind in (TextTraceable, TypedTextTraceable, TokensTraceable, ImageTraceable)
}


def traceable_for(model: nn.Module, card: ModelCard) -> Traceable:
    """The face with the card's input names. Raises StageError for names nobody knows."""
    names = tuple(spec.name for spec in card.inputs)
    kind = _BY_INPUTS.get(names)
    if kind is None:
        raise StageError(
            f"A {card.architecture} that takes {', '.join(names)} cannot be called here.",
            mend="Export it to ONNX yourself and upload that.",
        )
    traceable = kind(model, [spec.name for spec in card.outputs]).eval()
    return traceable.requires_grad_(False)


def parameters_of(module: nn.Module) -> int:
    """How many parameters, shared ones counted once."""
    return sum(p.numel() for p in module.parameters())


