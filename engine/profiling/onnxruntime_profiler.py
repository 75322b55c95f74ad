"""Operators of an ONNX file, from the profile that onnxruntime writes of a session of its own."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.domain.artifact import ModelCard
from engine.domain.deployment import Lowered
from engine.domain.operators import OVERHEAD, OperatorProfile, OperatorTime, profile_of
from engine.domain.ports import Executor
from engine.hardware.operators import OperatorKind
from engine.measure.work import flops_of, kind_of
from engine.runtimes.onnxruntime import MODEL, executor_on
from engine.runtimes.ort.executors import open_session

_KERNEL_EVENT = "_kernel_time"
_TYPES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64"}
_INTEGER = ("int8", "uint8")
_WIDENING = {"MatMulNBits": "fp32"}
"""Operators that store integers and compute in floating point."""
_PARTS = ("activation", "parameter", "output")
"""Whose bytes a record tells: what is read of other operators, of the weights, and what is written."""


def profile(
    lowered: Lowered, card: ModelCard, threads: int, run: Callable[[Executor], object], calls: int, scratch: Path
) -> OperatorProfile:
    """`run` makes one call of an executor. The profile is of `calls` such calls, after one that is left out.

    `scratch`: where the profile may be written; it is removed again.
    """
    session = open_session(Path(lowered.directory) / MODEL, threads, profile_prefix=str(scratch / "onnxruntime"))
    executor = executor_on(session, card)
    for _ in range(calls + 1):
        run(executor)
    file = Path(session.end_profiling())
    executor.close()
    try:
        events = json.loads(file.read_text())
    finally:
        file.unlink(missing_ok=True)
    return profile_of("onnxruntime", operators_of(events, calls), calls)


def operators_of(events: list[dict[str, Any]], calls: int) -> list[OperatorTime]:
    """Of the last `calls` of `calls + 1` equal calls in a profile of onnxruntime.

    A call may be several runs of the session, as a generation is.
    """
    runs = sorted((e for e in events if e["name"] == "model_run"), key=lambda e: e["ts"])
    kept_runs = runs[len(runs) // (calls + 1) :]
    begin = kept_runs[0]["ts"] if kept_runs else 0
    times: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    flops: dict[str, float] = defaultdict(float)
    sizes: dict[str, float] = defaultdict(float)
    latest: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL_EVENT) and event["ts"] >= begin:
            name = event["name"].removesuffix(_KERNEL_EVENT)
            times[name] += event["dur"]
            counts[name] += 1
            flops[name] += _flops(event["args"])
            sizes[name] += _bytes(event["args"])
            latest[name] = event["args"]
    found = [
        OperatorTime(
            type=latest[name]["op_name"], name=name, layer=_layer(name), calls=max(1, round(counts[name] / calls)),
            ms=times[name] / 1e3 / calls, kernel=latest[name].get("provider", ""),
            precision=_precision(latest[name]), shapes=_shapes(latest[name]),
            flops=flops[name] / calls, bytes=sizes[name] / calls,
        )
        for name in times
    ]  # fmt: skip
    between = sum(e["dur"] for e in kept_runs) - sum(times.values())
    if between > 0:
        found.append(OperatorTime(type=OVERHEAD, name=OVERHEAD, calls=1, ms=between / 1e3 / calls))
    return found


def _layer(name: str) -> str:
    """Of a node that an exporter named after its module (`/encoder/layer.0/MatMul`)."""
    return ".".join(name.strip("/").split("/")[:-1])


def _types(arguments: dict[str, Any]) -> list[str]:
    return [kind for given in arguments.get("input_type_shape", ()) for kind in given]


def _shapes(arguments: dict[str, Any], of: str = "input_type_shape") -> tuple[tuple[int, ...], ...]:
    given = [shape for each in arguments.get(of, ()) for shape in each.values()]
    return tuple(tuple(int(n) for n in shape) for shape in given if shape)


def _flops(arguments: dict[str, Any]) -> float:
    outputs, inputs = _shapes(arguments, "output_type_shape"), _shapes(arguments)
    cache = next((shape for shape in inputs if len(shape) == 4), None)
    if arguments["op_name"] == "GroupQueryAttention" and cache:
        # queries may come packed with keys and values, but are of the answer's size; the keys are those in the cache
        inputs = (outputs[0], (*outputs[0][:-2], cache[-2], outputs[0][-1]))
    return flops_of(arguments["op_name"], inputs, outputs[0]) if outputs else 0.0


def _bytes(arguments: dict[str, Any]) -> float:
    told = sum(int(arguments.get(f"{part}_size", 0)) for part in _PARTS)
    inputs, outputs = _shapes(arguments), _shapes(arguments, "output_type_shape")
    if kind_of(arguments["op_name"]) is not OperatorKind.MATMUL or not outputs or sum(len(shape) > 1 for shape in inputs) > 1:
        return told
    # a product whose weights were packed at the start tells nothing of them
    return told + inputs[0][-1] * outputs[0][-1] * (1 if _precision(arguments) == "int8" else 4)


def _precision(arguments: dict[str, Any]) -> str:
    """Of the arithmetic: that of the inputs, unless integers are only how weights are kept."""
    if arguments["op_name"] in _WIDENING:
        return _WIDENING[arguments["op_name"]]
    kinds = _types(arguments)
    if any(kind in _INTEGER for kind in kinds):
        return "int8"
    return next((_TYPES[kind] for kind in kinds if kind in _TYPES), "")
