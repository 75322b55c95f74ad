"""Where the time of a call goes, on whichever runtime a model is opened (child side)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from engine.domain.operators import OperatorProfile
from engine.domain.ports import Executor
from engine.domain.recipe import RuntimeId
from engine.requests import OpenRequest

_SECONDS = 1.0
_MOST_CALLS = 20


def profile(
    executor: Executor, request: OpenRequest, run: Callable[[Executor], object], typical_ms: float
) -> OperatorProfile | None:
    """The operators of one call; None for an executor that no profiler knows.

    `executor` is the one that was timed and will not be timed again, `run` makes one
    call, which takes about `typical_ms`. onnxruntime and openvino count in a session of their own.
    """
    calls = max(1, min(_MOST_CALLS, math.floor(_SECONDS * 1e3 / max(typical_ms, 1e-3))))
    lowered, card, threads = request.lowered, request.card, request.threads
    if not lowered.placement.is_cpu and lowered.runtime in (RuntimeId.ONNXRUNTIME, RuntimeId.OPENVINO):
        return None  # their profilers count in a session of their own, which is opened on the processor
    match lowered.runtime:
        case RuntimeId.EAGER | RuntimeId.INDUCTOR:
            from engine.executors.torch_local import EagerExecutor
            from engine.profiling import torch_profiler

            if not isinstance(executor, EagerExecutor):
                return None
            return torch_profiler.profile(executor, lambda: run(executor), calls)
        case RuntimeId.ONNXRUNTIME:
            from engine.profiling import onnxruntime_profiler

            return onnxruntime_profiler.profile(lowered, card, threads, run, calls, Path(request.scratch_dir))
        case RuntimeId.OPENVINO:
            from engine.profiling import openvino_profiler

            return openvino_profiler.profile(lowered, card, threads, run, calls)
