"""Operators of an openvino model, from the plugin's own counters in a compilation of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.domain.artifact import ModelCard
from engine.domain.deployment import Lowered
from engine.domain.operators import OperatorProfile, OperatorTime, profile_of
from engine.domain.ports import Executor
from engine.measure.work import Tensor, flops_of
from engine.runtimes.openvino import MODEL, compiled_model, executor_on

_PRECISIONS = {"i8": "int8", "u8": "int8", "f32": "fp32", "f16": "fp16", "bf16": "bf16"}
_SUFFIX = re.compile(r"_([iuf]\d+|bf16)$", re.IGNORECASE)


def profile(lowered: Lowered, card: ModelCard, threads: int, run: Callable[[Executor], object], calls: int) -> OperatorProfile:
    """`run` makes one call of an executor. The profile is of `calls` such calls, after one that is left out."""
    compiled = compiled_model(Path(lowered.directory) / MODEL, lowered.settings | {"PERF_COUNT": "YES"}, threads)
    executor = executor_on(compiled, card)
    run(executor)
    first, first_inferences = _milliseconds(executor.counters()), executor.inferences
    for _ in range(calls):
        run(executor)
    counters, seen = executor.counters(), _nodes(compiled)
    executor.close()
    # a counter is the mean over all inferences so far, the slower first ones among them
    since = {
        name: max(0.0, mean * executor.inferences - first.get(name, 0.0) * first_inferences) / calls
        for name, mean in _milliseconds(counters).items()
    }
    return profile_of("openvino", [operator_of(c, first_inferences, since[c.node_name], seen) for c in counters if _ran(c)], calls)


def operator_of(counter: Any, inferences: int, ms: float, seen: Mapping[str, _Node]) -> OperatorTime:
    """Of one `ProfilingInfo`. `inferences` and `ms`: in one call of the model.

    What it computes is told of calls of one inference only: a generation's counters do not tell prompt from tokens.
    """
    told = inferences == 1
    node = seen.get(counter.node_name, _Node())
    return OperatorTime(
        type=counter.node_type, name=counter.node_name, layer=_layer(counter.node_name), calls=inferences, ms=ms,
        kernel=counter.exec_type, precision=precision_of(counter.exec_type), shapes=tuple(t.shape for t in node.inputs),
        flops=node.flops(counter.node_type) if told else 0.0, bytes=node.bytes if told else 0.0,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Node:
    """Tensors of a node whose shapes are fixed; none where they are not."""

    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()

    def flops(self, type: str) -> float:
        return flops_of(type, [t.shape for t in self.inputs], self.outputs[0].shape) if self.outputs else 0.0

    @property
    def bytes(self) -> float:
        return sum(t.bytes for t in (*self.inputs, *self.outputs))


def _ran(counter: Any) -> bool:
    return bool(counter.status == type(counter).Status.EXECUTED)


def _milliseconds(counters: Iterable[Any]) -> dict[str, float]:
    return {c.node_name: c.real_time.total_seconds() * 1e3 for c in counters if _ran(c)}


def precision_of(kernel: str) -> str:
    """`int8` of `brgemm_avx512_I8`; empty where the kernel's name ends in no number format."""
    found = _SUFFIX.search(kernel)
    return _PRECISIONS.get(found.group(1).lower(), found.group(1).lower()) if found else ""


def _layer(name: str) -> str:
    """Of a node that an exporter named after its module (`/encoder/layer.0/MatMul`); others are numbered operators."""
    return "" if not name.startswith("/") else ".".join(name.strip("/").split("/")[:-1])


def _nodes(compiled: Any) -> dict[str, _Node]:
    """The compiled model's nodes by name."""
    found = {}
    for node in compiled.get_runtime_model().get_ops():
        inputs, outputs = [i.get_source_output() for i in node.inputs()], node.outputs()
        if all(port.get_partial_shape().is_static for port in (*inputs, *outputs)):
            found[node.get_friendly_name()] = _Node(tuple(map(_tensor, inputs)), tuple(map(_tensor, outputs)))
    return found


def _tensor(port: Any) -> Tensor:
    return Tensor(tuple(int(n) for n in port.get_shape()), port.get_element_type().bitwidth / 8)
