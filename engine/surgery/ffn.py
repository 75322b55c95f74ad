"""Removes neurons of feed-forward blocks: rows of what makes them, columns of what reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.surgery.importance import Evidence
from engine.surgery.matrices import (
    in_norms,
    is_linear,
    keep_inputs,
    keep_outputs,
    make_up,
    out_norms,
    ratio_of,
    sizes,
)
from engine.surgery.sizes import kept_size

_SHAPES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("intermediate.dense",), "output.dense"),  # BERT, RoBERTa, ELECTRA, ViT, Swin
    (("gate_proj", "up_proj"), "down_proj"),  # Llama, Mistral, Qwen, Gemma
    (("c_fc",), "c_proj"),  # GPT-2
    (("lin1",), "lin2"),  # DistilBERT
    (("fc1",), "fc2"),  # OPT, Phi, CLIP, DINOv2
    (("dense_h_to_4h",), "dense_4h_to_h"),  # GPT-NeoX, Falcon
    (("pwconv1",), "pwconv2"),  # ConvNeXt
    (("ffn",), "ffn_output"),  # ALBERT
)
"""Children of a block: what makes the neurons, and what reads them."""


@dataclass(frozen=True, slots=True)
class FeedForward:
    """A block's linear layers by path: `makers` write the neurons, `reader` reads them."""

    parent: str
    makers: tuple[str, ...]
    reader: str


def feed_forwards(model: nn.Module) -> list[FeedForward]:
    """The blocks of a model, in its order."""
    paths = dict(model.named_modules())
    found: list[FeedForward] = []
    for parent in paths:
        for makers, reader in _SHAPES:
            names = [f"{parent}.{name}".lstrip(".") for name in (*makers, reader)]
            if not all(name in paths and is_linear(paths[name]) for name in names):
                continue
            made = {sizes(paths[name])[1] for name in names[:-1]}
            if made == {sizes(paths[names[-1]])[0]}:
                found.append(FeedForward(parent, tuple(names[:-1]), names[-1]))
    return found


def prune_ffn(
    model: nn.Module, sparsity: float | Mapping[str, float], evidence: Evidence
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Cut every block by `sparsity` (or by its reader's); the attributes that follow, and the readers' paths.

    Where activations were seen, the reader makes up for what the removed neurons gave it (see
    `matrices.make_up`; the average alone is what FLAP, arXiv:2312.11983, does).
    """
    attributes: dict[str, dict[str, Any]] = {}
    blocks = feed_forwards(model)
    for block in blocks:
        makers: list[Any] = [model.get_submodule(path) for path in block.makers]
        reader: Any = model.get_submodule(block.reader)
        kept = kept_neurons(model, block, ratio_of(sparsity, block.reader), evidence)
        if len(kept) == sizes(reader)[0]:
            continue
        seen = evidence.seen(block.reader)
        if seen is not None:
            make_up(reader, kept, seen)
        for maker in makers:
            keep_outputs(maker, kept)
        keep_inputs(reader, kept)
        parent: Any = model.get_submodule(block.parent)
        if isinstance(getattr(parent, "intermediate_size", None), int):
            parent.intermediate_size = len(kept)
            attributes[block.parent] = {"intermediate_size": len(kept)}
    return attributes, [block.reader for block in blocks]


def kept_neurons(model: nn.Module, block: FeedForward, sparsity: float, evidence: Evidence) -> Tensor:
    """Indices of the neurons that stay, ascending; all of them at a sparsity of 0."""
    score = neuron_scores(model, block, evidence)
    count = kept_size(len(score), sparsity) if sparsity > 0 else len(score)
    return score.topk(count).indices.sort().values


def neuron_scores(model: nn.Module, block: FeedForward, evidence: Evidence) -> Tensor:
    """How much each neuron matters.

    To first order what its loss does to the answer; else as much as its activation varies
    times the weights that read it; else as much as its weights are large.
    """
    reader: Any = model.get_submodule(block.reader)
    if evidence.taylor is not None:
        return evidence.taylor[block.reader]
    if seen := evidence.seen(block.reader):
        return in_norms(reader) * (seen.rms if reader.bias is None else seen.deviation)
    makers: list[Any] = [model.get_submodule(path) for path in block.makers]
    return in_norms(reader) * torch.stack([out_norms(maker) for maker in makers]).prod(0)
