"""What a model's weights look like, from the module before and from the written file after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from engine.surgery.ffn import feed_forwards
from engine.surgery.heads import attentions
from engine.surgery.layers import stack_of
from engine.surgery.matrices import sizes
from engine.tasks.traceable import Traceable


@dataclass(frozen=True, slots=True)
class Shape:
    """`widths`: neurons of each feed-forward block by its reader's path; `heads`, `channels` likewise.

    `stack`: where the repeated layers are (empty: there are none); `layers`: how many.
    """

    names: frozenset[str]
    parameters: int
    zeros: int
    widths: dict[str, int]
    heads: dict[str, int]
    head_dims: dict[str, int]
    transposed: frozenset[str]
    channels: dict[str, int]
    stack: str = ""
    layers: int = 0


def shape_of_module(module: Traceable) -> Shape:
    model = module.model
    parameters = dict(model.named_parameters())
    stack = stack_of(model)
    return Shape(
        names=frozenset(parameters),
        parameters=sum(p.numel() for p in parameters.values()),
        zeros=sum(_zeros(p) for p in parameters.values()),
        widths={b.reader: _inputs(model, b.reader) for b in feed_forwards(model)},
        heads={b.output: b.heads for b in attentions(model)},
        head_dims={b.output: b.head_dim for b in attentions(model)},
        transposed=frozenset(path for path, m in model.named_modules() if type(m).__name__ == "Conv1D"),
        channels={path: m.out_channels for path, m in model.named_modules() if isinstance(m, nn.Conv2d)},
        stack=stack.path if stack else "", layers=stack.count if stack else 0,
    )  # fmt: skip


def shape_of_file(file: Path, before: Shape) -> Shape:
    """The same of a safetensors file, knowing only names from before."""
    with safe_open(file, "pt") as stored:
        shapes = {name: stored.get_slice(name).get_shape() for name in stored.keys()}  # noqa: SIM118 (not a dict)
        names = before.names & shapes.keys()  # layers may have gone
        zeros = sum(_zeros(stored.get_tensor(name)) for name in names)

    def there(paths: Iterable[str]) -> list[str]:
        return [path for path in paths if f"{path}.weight" in shapes]

    def inputs(path: str) -> int:
        return int(shapes[f"{path}.weight"][0 if path in before.transposed else 1])

    return Shape(
        names=names,
        parameters=sum(prod(shapes[name]) for name in names),
        zeros=zeros,
        widths={path: inputs(path) for path in there(before.widths)},
        heads={path: inputs(path) // before.head_dims[path] for path in there(before.heads)},
        head_dims=before.head_dims,
        transposed=before.transposed,
        channels={path: int(shapes[f"{path}.weight"][0]) for path in there(before.channels)},
        stack=before.stack, layers=len({n[len(before.stack) + 1 :].split(".")[0] for n in names if n.startswith(f"{before.stack}.")}),
    )  # fmt: skip


def compare(before: Shape, after: Shape) -> dict[str, float | int | str | bool]:
    """Flat facts. Counts are of one block where all blocks are alike, else their mean."""
    facts: dict[str, float | int | str | bool] = {
        "parameters_before": before.parameters, "parameters_after": after.parameters,
        "parameters_removed": round(1 - after.parameters / before.parameters, 6),
        "zero_share_before": round(before.zeros / before.parameters, 6),
        "zero_share_after": round(after.zeros / after.parameters, 6),
    }  # fmt: skip
    for name, old, new in (("ffn_width", before.widths, after.widths), ("heads", before.heads, after.heads)):
        if old and new:
            facts |= {f"{name}_before": _typical(old.values()), f"{name}_after": _typical(new.values())}
            if len(set(new.values())) > 1:
                facts[f"{name}_of_each"] = ", ".join(str(width) for width in new.values())
    if before.layers:
        facts |= {"layers_before": before.layers, "layers_after": after.layers}
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


def macs_of(module: Traceable, example: tuple[Tensor, ...]) -> int:
    """Multiply-accumulates of one item, as PyTorch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*example)
    return int(counter.get_total_flops()) // 2
