"""Operators of an openvino model, from the plugin's own counters in a compilation of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from engine.domain.artifact import ModelCard
from engine.domain.deployment import Lowered
from engine.domain.operators import OperatorProfile, OperatorTime, profile_of
from engine.domain.ports import Executor
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
    counters, shapes = executor.counters(), _shapes(compiled)
    executor.close()
    # a counter is the mean over all inferences so far, the slower first ones among them
    since = {
        name: max(0.0, mean * executor.inferences - first.get(name, 0.0) * first_inferences) / calls
        for name, mean in _milliseconds(counters).items()
    }
    return profile_of("openvino", [operator_of(c, first_inferences, since[c.node_name], shapes) for c in counters if _ran(c)], calls)


def operator_of(counter: Any, inferences: int, ms: float, shapes: Mapping[str, tuple[tuple[int, ...], ...]]) -> OperatorTime:
    """Of one `ProfilingInfo`. `inferences` and `ms`: in one call of the model."""
    return OperatorTime(
        type=counter.node_type, name=counter.node_name, layer=_layer(counter.node_name), calls=inferences, ms=ms,
        kernel=counter.exec_type, precision=precision_of(counter.exec_type), shapes=shapes.get(counter.node_name, ()),
    )  # fmt: skip


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


def _shapes(compiled: Any) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Input shapes by node, where they are fixed."""
    found = {}
    for node in compiled.get_runtime_model().get_ops():
        given = [node.get_input_partial_shape(i) for i in range(node.get_input_size())]
        if all(shape.is_static for shape in given):
            found[node.get_friendly_name()] = tuple(tuple(int(n) for n in shape.to_shape()) for shape in given)
    return found
