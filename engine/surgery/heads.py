"""Removes attention heads; with grouped queries, a key-value head goes with all queries that read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.surgery.importance import Evidence
from engine.surgery.matrices import in_norms, is_linear, keep_inputs, keep_outputs, make_up, out_norms, ratio_of, sizes
from engine.surgery.sizes import kept_of_heads

_SHAPES: tuple[tuple[tuple[str, str, str], str], ...] = (
    (("self.query", "self.key", "self.value"), "output.dense"),  # BERT, RoBERTa, ELECTRA
    (("q_proj", "k_proj", "v_proj"), "o_proj"),  # Llama, Mistral, Qwen, Gemma, ViT
    (("q_proj", "k_proj", "v_proj"), "out_proj"),  # OPT, CLIP
    (("q_lin", "k_lin", "v_lin"), "out_lin"),  # DistilBERT
)
_FUSED = ("c_attn", "c_proj")  # GPT-2: queries, keys and values in one matrix
_HEAD_COUNTS = ("num_attention_heads", "num_heads", "n_heads")
_WIDTHS = ("all_head_size", "split_size", "embed_dim", "dim")
"""Attributes that hold the number of heads, and heads × head size."""


@dataclass(frozen=True, slots=True)
class Attention:
    """`inputs`: paths of what makes queries, keys, values (or one of all three); `output` reads the heads."""

    core: str
    inputs: tuple[str, ...]
    output: str
    head_dim: int
    heads: int
    kv_heads: int


def attentions(model: nn.Module) -> list[Attention]:
    """Attention blocks of a known shape, in the model's order."""
    paths = dict(model.named_modules())
    found: list[Attention] = []
    for parent in paths:
        for inputs, output in (*_SHAPES, (_FUSED[:1], _FUSED[1])):
            names = [f"{parent}.{name}".lstrip(".") for name in (*inputs, output)]
            if all(name in paths and is_linear(paths[name]) for name in names):
                core = names[0].rpartition(".")[0]
                block = _block(core, paths[core], names, [sizes(paths[name]) for name in names])
                found.extend([block] if block else [])
    return found


def prune_heads(
    model: nn.Module, sparsity: float | Mapping[str, float], evidence: Evidence
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Cut every attention by `sparsity` (or by its output's) of its (key-value) heads; the attributes that
    follow, and the outputs' paths."""
    attributes: dict[str, dict[str, Any]] = {}
    blocks = [block for block in attentions(model) if block.kv_heads > 1]
    for block in blocks:
        inputs: list[Any] = [model.get_submodule(path) for path in block.inputs]
        output: Any = model.get_submodule(block.output)
        kept = kept_heads(model, block, ratio_of(sparsity, block.output), evidence)
        if len(kept) == block.kv_heads:
            continue
        queries = _features(kept, block.heads // block.kv_heads * block.head_dim)
        keys = _features(kept, block.head_dim)
        if len(inputs) == 1:
            keep_outputs(inputs[0], torch.cat([queries + part * block.heads * block.head_dim for part in range(3)]))
        else:
            for module, features in zip(inputs, (queries, keys, keys), strict=True):
                keep_outputs(module, features)
        if seen := evidence.seen(block.output):
            make_up(output, queries, seen)
        keep_inputs(output, queries)
        attributes[block.core] = _renumber(model.get_submodule(block.core), block, len(kept))
    return attributes, [block.output for block in blocks]


def _block(core: str, module: Any, names: list[str], shapes: list[Any]) -> Attention | None:
    head_dim = getattr(module, "attention_head_size", None) or getattr(module, "head_dim", None)
    width = shapes[-1][0]
    keys = shapes[1][1] if len(names) == 4 else width
    made = shapes[0][1] if len(names) == 4 else shapes[0][1] / 3
    if not isinstance(head_dim, int) or made != width or width % head_dim or keys % head_dim:
        return None
    return Attention(core, tuple(names[:-1]), names[-1], head_dim, width // head_dim, keys // head_dim)


def kept_heads(model: nn.Module, block: Attention, sparsity: float, evidence: Evidence) -> Tensor:
    """Indices of the key-value heads that stay, ascending; all of them at a sparsity of 0."""
    score = head_scores(model, block, evidence)
    count = kept_of_heads(block.kv_heads, sparsity) if sparsity > 0 else block.kv_heads
    return score.topk(count).indices.sort().values


def head_scores(model: nn.Module, block: Attention, evidence: Evidence) -> Tensor:
    """How much each key-value head matters.

    To first order what its loss does to the answer; else as much as the activations it
    passes on times the weights that read them; else as much as its weights are large.
    """
    output: Any = model.get_submodule(block.output)
    if evidence.taylor is not None:
        return evidence.taylor[block.output].view(block.kv_heads, -1).sum(1)
    if seen := evidence.seen(block.output):
        feature = in_norms(output) * seen.rms
    else:
        values = out_norms(model.get_submodule(block.inputs[-1]))[-block.kv_heads * block.head_dim :]
        feature = (in_norms(output).view(block.kv_heads, -1, block.head_dim) * values.view(block.kv_heads, 1, -1)).flatten()
    return feature.square().view(block.kv_heads, -1).sum(1)


def _features(heads: Tensor, width: int) -> Tensor:
    """Feature indices of `heads`, each `width` wide."""
    return (heads[:, None] * width + torch.arange(width)).flatten()


def _renumber(module: Any, block: Attention, kv_heads: int) -> dict[str, Any]:
    """Set the counts that the attention keeps of itself."""
    heads = kv_heads * (block.heads // block.kv_heads)
    changed: dict[str, Any] = dict.fromkeys(_HEAD_COUNTS, heads)
    changed |= dict.fromkeys(_WIDTHS, heads * block.head_dim) | {"num_key_value_heads": kv_heads}
    found = {name: value for name, value in changed.items() if isinstance(getattr(module, name, None), int)}
    for name, value in found.items():
        setattr(module, name, value)
    return found
