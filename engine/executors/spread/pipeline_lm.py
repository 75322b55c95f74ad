"""A causal LM cut between decoder blocks: each rank owns some blocks and their KV cache.

A rank runs the model's own code with only its blocks in it, so that masks, positions
and caches are transformers' work as in one process. What enters its first block is
replaced by what came over the link.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import DynamicCache

from engine.domain.errors import StageError
from engine.domain.ports import Array, Batch, Generation, Outputs
from engine.executors.spread.cuts import balance, choose_cuts, pieces
from engine.executors.spread.graph_costs import BYTES, FLOPS, link_seconds
from engine.executors.spread.part import COMPUTE, LINK, Event, Place, Recorder
from engine.executors.torch_compiled import repeated_blocks
from engine.executors.torch_local import float_type_of, to_array
from engine.requests import OpenRequest
from engine.runtimes.torch_lowering import open_torch


class PipelineLMPart:
    """Microbatches are rows of the batch; each has a cache of its own and they take turns on the stages."""

    def __init__(self, request: OpenRequest, place: Place) -> None:
        torch.set_num_threads(request.threads)
        module = open_torch(request.lowered, request.card)
        model: Any = module.model
        blocks = repeated_blocks(model)
        if len(blocks) < place.ranks:
            raise StageError(
                f"{len(blocks)} blocks of the {type(model).__name__} can be told apart, fewer than {place.ranks} ranks.",
                mend="Choose a smaller degree.",
            )
        self._model, self._place = model, place
        self._is_first, self._is_last = place.rank == 0, place.rank == place.ranks - 1
        self._dtype = float_type_of(module)
        self._microbatches = pieces(request.workload.batch_size, request.lowered.layout.microbatches or place.ranks)
        self._recorder = Recorder()
        costs = block_seconds(model, blocks, request.workload.batch_size)
        hidden = int(model.config.get_text_config().hidden_size)
        sent = request.workload.batch_size * hidden * torch.empty(0, dtype=self._dtype).element_size()
        cuts = choose_cuts(costs, [link_seconds(sent)] * len(costs), place.ranks)
        edges = [0, *(cut + 1 for cut in cuts), len(blocks)]
        self._hidden = hidden
        self._received: Tensor | None = None
        self._made: Tensor | None = None
        self._sending: list[tuple[Any, Tensor]] = []
        keep_blocks(model, blocks, edges[place.rank], edges[place.rank + 1])
        self._device = torch.device(request.lowered.placement.device)
        model.to(self._device)
        self._tap(blocks[edges[place.rank]], blocks[edges[place.rank + 1] - 1])
        stages = [sum(costs[a:b]) for a, b in pairwise(edges)]
        self.facts: dict[str, Any] = {
            "microbatches": self._microbatches,
            "cuts": ", ".join(f"block {edge}" for edge in edges[1:-1]),
            "predicted_balance": balance(stages),
            "bytes_over_link": (place.ranks - 1) * sent * (request.workload.sequence_length + request.workload.new_tokens - 1),
        }

    def infer(self, batch: Batch) -> Outputs | None:
        self._recorder.clear()
        ids = torch.from_numpy(batch["input_ids"]).to(self._device)
        with torch.inference_mode():
            found = [self._logits(rows, i, None, whole=True) for i, rows in enumerate(self._rows(ids))]
            self._sent()
        if not self._is_last:
            return None
        return {"logits": to_array(torch.cat([f for f in found if f is not None]).cpu())}

    def generate(self, input_ids: Array, new_tokens: int, began: float) -> Generation | None:
        self._recorder.clear()
        rows = self._rows(torch.from_numpy(input_ids).to(self._device))
        caches = [DynamicCache(config=self._model.config) for _ in rows]
        tokens: list[list[Tensor]] = [[] for _ in rows]
        times: list[float] = []
        with torch.inference_mode():
            for step in range(new_tokens):
                for i, prompt in enumerate(rows):
                    ids = prompt if step == 0 else self._next_ids(prompt.shape[0], i)
                    logits = self._logits(ids, i, caches[i], whole=False)
                    if logits is not None:
                        token = logits[:, -1:].argmax(-1)
                        tokens[i].append(token.cpu())  # a token's time is when the host has it
                        if step + 1 < new_tokens:
                            self._send(token, 0, i)
                times.append(time.monotonic() - began)
            self._sent()
        if not self._is_last:
            return None
        return Generation(torch.cat([torch.cat(t, dim=1) for t in tokens]).numpy(), tuple(times))

    def trace(self) -> list[Event]:
        return self._recorder.events

    def _rows(self, ids: Tensor) -> tuple[Tensor, ...]:
        return ids.chunk(self._microbatches) if ids.shape[0] % self._microbatches == 0 else (ids,)

    def _next_ids(self, rows: int, item: int) -> Tensor:
        """The token that the last rank chose; ranks between need only its shape."""
        ids = torch.zeros(rows, 1, dtype=torch.int64, device=self._device)
        if self._is_first:
            with self._recorder.during(LINK, item):
                dist.recv(ids, self._place.ranks - 1)
        return ids

    def _logits(self, ids: Tensor, item: int, cache: Any, *, whole: bool) -> Tensor | None:
        """This rank's blocks over `ids`; logits on the last rank, of all positions or of the last one."""
        if not self._is_first:
            self._received = torch.empty(*ids.shape, self._hidden, dtype=self._dtype, device=self._device)
            with self._recorder.during(LINK, item):
                dist.recv(self._received, self._place.rank - 1)
        options: dict[str, Any] = {"input_ids": ids, "past_key_values": cache, "use_cache": cache is not None}
        with self._recorder.during(COMPUTE, item):
            if self._is_last:
                logits: Tensor = self._model(**options, logits_to_keep=0 if whole else 1).logits
                return logits
            self._model.base_model(**options)
        assert self._made is not None
        self._send(self._made.contiguous(), self._place.rank + 1, item)
        return None

    def _send(self, tensor: Tensor, rank: int, item: int) -> None:
        """Does not wait: two ranks that both wait to be rid of something would wait for ever."""
        self._recorder.sent(item, tensor.numel() * tensor.element_size())
        self._sending.append((dist.isend(tensor, rank), tensor))

    def _sent(self) -> None:
        """Everything of this call has arrived."""
        for work, _ in self._sending:
            work.wait()
        self._sending.clear()

    def _tap(self, first: nn.Module, last: nn.Module) -> None:
        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self._is_first:
                return None
            if args:
                return (self._received, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": self._received}

        def leave(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._made = output[0] if isinstance(output, tuple) else output

        first.register_forward_pre_hook(enter, with_kwargs=True)
        last.register_forward_hook(leave)


def block_seconds(model: Any, blocks: list[nn.Module], rows: int) -> list[float]:
    """Roofline of one new token through each block; embedding and head are counted with first and last."""

    def seconds(module: nn.Module) -> float:
        parameters = [*module.parameters(), *module.buffers()]
        size = sum(p.numel() * p.element_size() for p in parameters)
        size += sum(getattr(m, "weight_bytes", 0) for m in module.modules())
        return max(size / BYTES, 2.0 * rows * sum(p.numel() for p in parameters) / FLOPS)

    costs = [seconds(block) for block in blocks]
    head = model.get_output_embeddings()
    if head is not None:
        costs[-1] += seconds(head)
    return costs


def keep_blocks(model: Any, blocks: list[nn.Module], begin: int, end: int) -> None:
    """Leave only blocks begin…end−1 in the model, numbered from 0 as their cache is."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == len(blocks) and child[0] is blocks[0]:
                setattr(module, name, nn.ModuleList(blocks[begin:end]))
                _number(model, blocks[begin:end], begin, len(blocks))
                return


def _number(model: Any, kept: list[nn.Module], begin: int, count: int) -> None:
    for index, block in enumerate(kept):
        for module in block.modules():
            if isinstance(getattr(module, "layer_idx", None), int):
                module.layer_idx = index  # type: ignore[assignment]
    for config in {id(c): c for c in (model.config, model.base_model.config)}.values():
        kinds = getattr(config, "layer_types", None)
        if isinstance(kinds, list) and len(kinds) == count:
            config.layer_types = kinds[begin : begin + len(kept)]
        config.num_hidden_layers = len(kept)
