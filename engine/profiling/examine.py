"""All that is looked at when nothing more is timed (child side)."""

from __future__ import annotations

from collections.abc import Callable

from engine.domain.artifact import TaskId
from engine.domain.evidence import ContextPoint, Counters, Examined
from engine.domain.ports import Batch, Executor
from engine.domain.recipe import RuntimeId
from engine.measure.context import context_curve
from engine.measure.memory import Growth
from engine.profiling.profile import profile
from engine.requests import OpenRequest


def examine(
    executor: Executor,
    request: OpenRequest,
    batch: Batch,
    run: Callable[[Executor], object],
    typical_ms: float,
    counters: Counters,
    growth: Growth,
) -> Examined:
    """`run` makes one call, which takes about `typical_ms`; `growth` is how memory grew until the model was warm."""
    device = getattr(executor, "peak_bytes", int)()
    weights, activations = _memory(executor, request, run, growth, device)
    return Examined(
        counters=counters, operators=profile(executor, request, run, typical_ms), weights_bytes=weights,
        activations_bytes=activations, kv_cache=getattr(executor, "kv_cache", ""), context=_context(executor, request, batch),
        device_bytes=device,
    )  # fmt: skip


def _memory(
    executor: Executor, request: OpenRequest, run: Callable[[Executor], object], growth: Growth, device: int
) -> tuple[int, int]:
    """Bytes of weights and of activations: torch's own count where it is torch, `device` its peak on an accelerator."""
    if request.lowered.runtime in (RuntimeId.EAGER, RuntimeId.INDUCTOR):
        from engine.executors.torch_local import EagerExecutor
        from engine.profiling.torch_profiler import activations_bytes, weights_bytes

        if isinstance(executor, EagerExecutor) and device:
            weights = weights_bytes(executor)
            return weights, max(device - weights, 0)
        if isinstance(executor, EagerExecutor):
            return weights_bytes(executor), activations_bytes(lambda: run(executor))
    return growth.by_opening, growth.by_calling


def _context(executor: Executor, request: OpenRequest, batch: Batch) -> tuple[ContextPoint, ...]:
    """Of causal LMs; inductor would compile anew for every length."""
    if request.card.task is not TaskId.CAUSAL_LM or request.lowered.runtime is RuntimeId.INDUCTOR:
        return ()
    return context_curve(executor, request.card, request.workload, batch["input_ids"])
