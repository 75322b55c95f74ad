"""What a model's weights look like, from the module before and from the written file after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from engine.tasks.traceable import Traceable
from engine.techniques.pruning.ffn import feed_forwards
from engine.techniques.pruning.heads import attentions
from engine.techniques.pruning.matrices import sizes


@dataclass(frozen=True, slots=True)
class Shape:
    """`widths`: neurons of each feed-forward block by its reader's path; `heads`, `channels` likewise."""

    names: frozenset[str]
    parameters: int
    zeros: int
    widths: dict[str, int]
    heads: dict[str, int]
    head_dims: dict[str, int]
    transposed: frozenset[str]
    channels: dict[str, int]


def shape_of_module(module: Traceable) -> Shape:
    model = module.model
    parameters = dict(model.named_parameters())
    return Shape(
        names=frozenset(parameters),
        parameters=sum(p.numel() for p in parameters.values()),
        zeros=sum(_zeros(p) for p in parameters.values()),
        widths={b.reader: _inputs(model, b.reader) for b in feed_forwards(model)},
        heads={b.output: b.heads for b in attentions(model)},
        head_dims={b.output: b.head_dim for b in attentions(model)},
        transposed=frozenset(path for path, m in model.named_modules() if type(m).__name__ == "Conv1D"),
        channels={path: m.out_channels for path, m in model.named_modules() if isinstance(m, nn.Conv2d)},
    )


def shape_of_file(file: Path, before: Shape) -> Shape:
    """The same of a safetensors file, knowing only names from before."""
    with safe_open(file, "pt") as stored:
        shapes = {name: stored.get_slice(name).get_shape() for name in stored.keys()}  # noqa: SIM118 (not a dict)
        zeros = sum(_zeros(stored.get_tensor(name)) for name in before.names)

    def inputs(path: str) -> int:
        return int(shapes[f"{path}.weight"][0 if path in before.transposed else 1])

    return Shape(
        names=before.names,
        parameters=sum(prod(shapes[name]) for name in before.names),
        zeros=zeros,
        widths={path: inputs(path) for path in before.widths},
        heads={path: inputs(path) // before.head_dims[path] for path in before.heads},
        head_dims=before.head_dims,
        transposed=before.transposed,
        channels={path: int(shapes[f"{path}.weight"][0]) for path in before.channels},
    )


def compare(before: Shape, after: Shape) -> dict[str, float | int | str | bool]:
    """Flat facts. Counts are of one block where all blocks are alike, else their mean."""
    facts: dict[str, float | int | str | bool] = {
        "parameters_before": before.parameters, "parameters_after": after.parameters,
        "parameters_removed": round(1 - after.parameters / before.parameters, 6),
        "zero_share_before": round(before.zeros / before.parameters, 6),
        "zero_share_after": round(after.zeros / after.parameters, 6),
    }  # fmt: skip
    for name, old, new in (("ffn_width", before.widths, after.widths), ("heads", before.heads, after.heads)):
        if old:
            facts |= {f"{name}_before": _typical(old.values()), f"{name}_after": _typical(new.values())}
    if len(before.channels) > 1:
        facts |= {"channels_before": sum(before.channels.values()), "channels_after": sum(after.channels.values())}
    return facts


def _typical(values: Iterable[int]) -> float | int:
    listed = list(values)
    return listed[0] if len(set(listed)) == 1 else round(sum(listed) / len(listed), 2)


def _inputs(model: nn.Module, path: str) -> int:
    return sizes(model.get_submodule(path))[0]


def _zeros(tensor: Tensor) -> int:
    return int((tensor == 0).sum())
