"""A stage of any model that torch.export can trace, by torch.distributed.pipelining.

Every rank traces the whole graph, cuts it at the same places and keeps its stage.
Weights are memory-mapped, so what a rank does not keep costs it no memory.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor, fx
from torch.distributed.pipelining import ScheduleGPipe, pipeline

from engine.domain.errors import StageError
from engine.domain.ports import Array, Batch, Generation, Outputs
from engine.domain.recipe import RuntimeId
from engine.executors.spread.cuts import balance, choose_cuts, pieces
from engine.executors.spread.graph_costs import flops_of, link_seconds, node_seconds, size_of, tensors_of
from engine.executors.spread.part import COMPUTE, Event, Place, Recorder, example
from engine.executors.torch_local import float_type_of, to_array, to_tensor
from engine.requests import OpenRequest
from engine.runtimes.torch_lowering import open_torch
from engine.tasks.traceable import Traceable


class PipelinePart:
    """Rank r runs stage r; microbatches follow each other (GPipe, forward only)."""

    def __init__(self, request: OpenRequest, place: Place) -> None:
        torch.set_num_threads(request.threads)
        layout, batch = request.lowered.layout, request.workload.batch_size
        module = open_torch(request.lowered, request.card)
        self._place = place
        self._outputs = module.outputs
        self._dtype = float_type_of(module)
        self._microbatches = pieces(batch, layout.microbatches or place.ranks)
        self._recorder = Recorder()
        cutter = Cutter(place.ranks)
        rows = example(request, batch // self._microbatches)
        pipe = _traced(module, tuple(to_tensor(rows[name], self._dtype) for name in module.inputs), cutter)
        self._names = _taken(pipe.split_gm.graph, module.inputs)
        self._device = torch.device(request.lowered.placement.device)
        stage: Any = pipe.build_stage(place.rank, self._device)
        if request.lowered.runtime is RuntimeId.INDUCTOR:
            stage.submod = _compiled(stage.submod)
        self._watch(stage)
        self._schedule = ScheduleGPipe(stage, self._microbatches)
        self.facts: dict[str, Any] = {
            "microbatches": self._microbatches,
            "cuts": ", ".join(cutter.names),
            "predicted_balance": balance(cutter.seconds),
            "bytes_over_link": sum(cutter.sizes) * self._microbatches,
        }

    def infer(self, batch: Batch) -> Outputs | None:
        self._recorder.clear()
        tensors = [to_tensor(batch[name], self._dtype).to(self._device) for name in self._names]
        with torch.inference_mode():
            made: Any = self._schedule.step(*tensors) if self._place.rank == 0 else self._schedule.step()
        if self._place.rank < self._place.ranks - 1:
            return None
        outputs = made if isinstance(made, (tuple, list)) else (made,)
        return {name: to_array(value.cpu()) for name, value in zip(self._outputs, outputs, strict=True)}

    def generate(self, input_ids: Array, new_tokens: int, began: float) -> Generation | None:
        raise StageError("A pipeline of a traced graph does not generate text.", mend="Ask it for outputs instead.")

    def trace(self) -> list[Event]:
        return self._recorder.events

    def _watch(self, stage: Any) -> None:
        """Record what the schedule calls, with the clock of the host."""
        forward, sending, recorder = stage.forward_one_chunk, stage.get_fwd_send_ops, self._recorder

        def forward_one_chunk(chunk: int, *args: Any, **kwargs: Any) -> Any:
            with recorder.during(COMPUTE, chunk):
                return forward(chunk, *args, **kwargs)

        def get_fwd_send_ops(chunk: int) -> Any:
            operations = sending(chunk)
            recorder.sent(chunk, sum(op.tensor.numel() * op.tensor.element_size() for op in operations))
            return operations

        stage.forward_one_chunk, stage.get_fwd_send_ops = forward_one_chunk, get_fwd_send_ops


class Cutter:
    """A split policy: cuts where the slowest stage is fastest. What it did is in its attributes."""

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self.names: list[str] = []
        """The node after which each cut lies."""
        self.seconds: list[float] = []
        """Predicted time of each stage."""
        self.sizes: list[int] = []
        """Bytes that cross each cut, a microbatch."""

    def __call__(self, graph_module: fx.GraphModule) -> fx.GraphModule:
        graph = graph_module.graph
        _own_inputs(graph)
        nodes = list(graph.nodes)
        costs = [node_seconds(node) for node in nodes]
        alive = [sum(map(size_of, values)) for values in _alive_after(nodes)]
        cuts = choose_cuts(costs, _links(nodes, alive), self._parts)
        edges = [-1, *cuts, len(nodes) - 1]
        self.names = [nodes[cut].name for cut in cuts]
        self.seconds = [sum(costs[a + 1 : b + 1]) for a, b in pairwise(edges)]
        self.sizes = [alive[cut] for cut in cuts]
        for cut in cuts:
            now = list(graph.nodes)  # with what earlier cuts inserted
            _cut_after(graph, now, now.index(nodes[cut]))
        graph_module.recompile()
        return graph_module


def _traced(module: Traceable, example: tuple[Tensor, ...], cutter: Cutter) -> Any:
    try:
        return pipeline(module, mb_args=example, split_policy=cutter)
    # what torch.export and the splitter raise for graphs they cannot take, some of it without a word
    except (RuntimeError, ValueError, AssertionError, TypeError, KeyError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise StageError(
            f"The {type(module.model).__name__} cannot be traced and cut: {first[:300]}",
            mend="Choose kind=tensor, or distributed() for whole replicas.", detail=str(error),
        ) from error  # fmt: skip


def _taken(graph: fx.Graph, inputs: tuple[str, ...]) -> tuple[str, ...]:
    """The model's inputs in the order in which the first stage takes them, which the schedule does not look at."""
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    first = next(node for node in graph.nodes if node.op == "call_module")
    return tuple(inputs[placeholders.index(argument)] for argument in first.args)


def _compiled(stage: fx.GraphModule) -> Any:
    """Compiled here, on made-up inputs: in a call the other ranks would wait for it, and give up."""
    values = [node.meta["val"] for node in stage.graph.nodes if node.op == "placeholder"]
    _rename_self(stage)
    compiled = torch.compile(stage, dynamic=False, options={"freezing": True})
    with torch.inference_mode():
        compiled(*(torch.zeros(value.shape, dtype=value.dtype) for value in values))
    return compiled


def _rename_self(stage: fx.GraphModule) -> None:
    """A BERT's `attention.self` becomes a value named `self`, which hides the module in the code that is compiled."""
    for module in stage.modules():
        inner: Any = getattr(module, "graph_module", None)
        if isinstance(inner, fx.GraphModule):
            for node in [n for n in inner.graph.nodes if n.name == "self"]:
                node._rename("attended")
            inner.recompile()


def _own_inputs(graph: fx.Graph) -> None:
    """Later stages take what the first one hands on, never the inputs themselves."""
    stacks = (n.meta.get("nn_module_stack") for n in graph.nodes if n.op == "call_function")
    root = dict(list(next(stack for stack in stacks if stack).items())[:1])  # the outermost module's
    for node in [n for n in graph.nodes if n.op == "placeholder"]:
        with graph.inserting_after(_last_placeholder(graph)):
            copied = graph.call_function(torch.ops.aten.clone.default, (node,))
        copied.meta = {"val": node.meta["val"], "nn_module_stack": root}
        for user in [u for u in node.users if u is not copied]:
            user.replace_input_with(node, copied)


def _last_placeholder(graph: fx.Graph) -> fx.Node:
    last: fx.Node = [n for n in graph.nodes if n.op in ("placeholder", "get_attr")][-1]
    return last


def _alive_after(nodes: list[fx.Node]) -> list[list[fx.Node]]:
    """For each place, the computed values that are made up to it and used after it."""
    place = {node: i for i, node in enumerate(nodes)}
    last = {n: max((place[u] for u in n.users), default=-1) for n in nodes if n.op == "call_function"}
    alive: list[list[fx.Node]] = []
    current: list[fx.Node] = []
    for i, node in enumerate(nodes):
        current = [n for n in [*current, *([node] if node in last else [])] if last[n] > i]
        alive.append(current)
    return alive


def _links(nodes: list[fx.Node], alive: list[int]) -> list[float]:
    """Seconds to send what is alive; infinite outside the products, and where more than usual is alive."""
    products = [i for i, node in enumerate(nodes) if flops_of(node) > 0]
    if not products:
        return [float("inf")] * len(nodes)
    inside = [node.op == "call_function" and products[0] <= i < products[-1] for i, node in enumerate(nodes)]
    usual = median([size for size, within in zip(alive, inside, strict=True) if within and size > 0] or [0])
    return [
        link_seconds(size) if within and 0 < size <= usual else float("inf")
        for size, within in zip(alive, inside, strict=True)
    ]


def _cut_after(graph: fx.Graph, nodes: list[fx.Node], cut: int) -> None:
    """Insert the split; what crosses it is made contiguous, because only that can be sent."""
    place = {node: i for i, node in enumerate(nodes)}
    after = nodes[cut]
    for value in _alive_after(nodes)[cut]:
        if any(not t.is_contiguous() for t in tensors_of(value)):
            with graph.inserting_after(after):
                solid = graph.call_function(
                    torch.ops.aten.clone.default, (value,), {"memory_format": torch.contiguous_format}
                )
            solid.meta = dict(value.meta)
            solid.meta["val"] = value.meta["val"].contiguous()
            for user in [u for u in value.users if place.get(u, -1) > cut]:
                user.replace_input_with(value, solid)
            after = solid
    with graph.inserting_after(after):
        graph.call_function(torch.ops.pippy._pipe_split.default, ())

