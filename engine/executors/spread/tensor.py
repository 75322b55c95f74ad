"""A slice of every layer: columns of the first matrix, rows of the second, and one sum over the ranks.

Ranks of a group hold different heads and different MLP features; each block needs two sums,
after attention and after the MLP (Shoeybi et al., Megatron-LM, 2019).
"""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import DynamicCache

from engine.domain.ports import Array, Batch, Generation, Outputs
from engine.domain.recipe import RuntimeId
from engine.executors.spread.part import COMPUTE, LINK, Event, Place, Recorder, example
from engine.executors.spread.plans import COLUMNS, GATHERED, ROWS, plan_of
from engine.executors.torch_local import causal_lm_of, float_type_of, to_array, to_tensor
from engine.requests import OpenRequest
from engine.runtimes.torch_lowering import open_torch
from engine.techniques.model_parallelism.support import HEAD_COUNTS

_WIDTHS = ("all_head_size", "embed_dim")


class TensorPart:
    """All ranks answer; rank 0's is taken."""

    def __init__(self, request: OpenRequest, place: Place) -> None:
        torch.set_num_threads(request.threads)
        layout = request.lowered.layout
        self._place = place
        self._module = open_torch(request.lowered, request.card)
        self._dtype = float_type_of(self._module)
        self._recorder = Recorder()
        plan = plan_of(self._module.model, place.ranks, attention=layout.split_attention)
        split = split_layers(self._module.model, plan, place, self._recorder)
        self._device = torch.device(request.lowered.placement.device)
        self._module.to(self._device)
        self._call: Any = self._module
        if request.lowered.runtime is RuntimeId.INDUCTOR:
            self._call = torch.compile(self._module, dynamic=False)
            # all ranks compile together now, so that no call waits for it
            self.infer(example(request, request.workload.batch_size))
        self.facts: dict[str, Any] = {
            "matrices_split": len(plan),
            "parameters_split": split,
            "parameters_of_a_rank": sum(p.numel() for p in self._module.parameters()),
            "attention_split": any(style == ROWS and "att" in path for path, style in plan.items()),
        }

    def infer(self, batch: Batch) -> Outputs | None:
        self._recorder.clear()
        tensors = [to_tensor(batch[name], self._dtype).to(self._device) for name in self._module.inputs]
        with torch.inference_mode(), self._recorder.during(COMPUTE, 0):
            outputs = self._call(*tensors)
        if self._place.rank:
            return None
        return {name: to_array(value.cpu()) for name, value in zip(self._module.outputs, outputs, strict=True)}

    def generate(self, input_ids: Array, new_tokens: int, began: float) -> Generation | None:
        self._recorder.clear()
        model = causal_lm_of(self._module)
        cache = DynamicCache(config=model.config)
        tokens, times, step = [], [], torch.from_numpy(input_ids).to(self._device)
        with torch.inference_mode():
            for index in range(new_tokens):
                with self._recorder.during(COMPUTE, index):
                    logits = model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
                step = logits[:, -1:].argmax(-1)
                # unlike CPUs may round unlike: all go on with the same token
                dist.broadcast(step, 0)
                tokens.append(step.cpu())  # a token's time is when the host has it
                times.append(time.monotonic() - began)
        return None if self._place.rank else Generation(torch.cat(tokens, dim=1).numpy(), tuple(times))

    def trace(self) -> list[Event]:
        return self._recorder.events


class RowLinear(nn.Module):
    """The rows' part of a product, summed over the ranks; the bias is added once, after the sum."""

    def __init__(self, weight: Tensor, bias: Tensor | None, recorder: Recorder) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.out_features, self.in_features = weight.shape
        self._recorder = recorder

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = all_reduce(nn.functional.linear(x, self.weight), self._recorder)
        return y if self.bias is None else y + self.bias


class GatheredLinear(nn.Module):
    """Some of the output features on each rank, gathered on all."""

    def __init__(self, weight: Tensor, bias: Tensor | None, ranks: int, recorder: Recorder) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.out_features, self.in_features = weight.shape[0] * ranks, weight.shape[1]
        self._ranks, self._recorder = ranks, recorder

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = all_gather(nn.functional.linear(x, self.weight, self.bias), self._ranks, self._recorder)
        return y


@torch.compiler.disable  # type: ignore[untyped-decorator]
def all_reduce(part: Tensor, recorder: Recorder) -> Tensor:
    """Sum over all ranks. A ring sends 2(n−1)/n of the tensor."""
    ranks = dist.get_world_size()
    size = 2 * (ranks - 1) * part.numel() * part.element_size() // ranks
    with recorder.during(LINK, len(recorder.events), size):
        part = part.contiguous()
        dist.all_reduce(part)
    return part


@torch.compiler.disable  # type: ignore[untyped-decorator]
def all_gather(part: Tensor, ranks: int, recorder: Recorder) -> Tensor:
    part = part.contiguous()
    parts = [torch.empty_like(part) for _ in range(ranks)]
    with recorder.during(LINK, len(recorder.events), (ranks - 1) * part.numel() * part.element_size()):
        dist.all_gather(parts, part)
    return torch.cat(parts, dim=-1)


def split_layers(model: nn.Module, plan: dict[str, str], place: Place, recorder: Recorder) -> int:
    """Replace each matrix of the plan by this rank's part of it; how many parameters were split."""
    split = 0
    for path, style in plan.items():
        layer: Any = model.get_submodule(path)
        split += layer.weight.numel()
        parent, _, name = path.rpartition(".")
        if style == ROWS:
            weight = layer.weight.chunk(place.ranks, dim=1)[place.rank].contiguous()
            setattr(model.get_submodule(parent), name, RowLinear(weight, layer.bias, recorder))
            continue
        weight = layer.weight.chunk(place.ranks)[place.rank]
        bias = None if layer.bias is None else layer.bias.chunk(place.ranks)[place.rank]
        if style == GATHERED:
            setattr(model.get_submodule(parent), name, GatheredLinear(weight, bias, place.ranks, recorder))
        elif style == COLUMNS:
            setattr(model.get_submodule(parent), name, _columns(weight, bias))
            _fewer_heads(model.get_submodule(parent), name, place.ranks)
    return split


def _columns(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def _fewer_heads(attention: Any, name: str, ranks: int) -> None:
    """An attention that lost heads counts them anew, once for its three matrices."""
    if not name.startswith("q"):
        return
    for attribute in (*HEAD_COUNTS, *_WIDTHS):
        value = getattr(attention, attribute, None)
        if isinstance(value, int):
            setattr(attention, attribute, value // ranks)
