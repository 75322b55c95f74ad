"""Opening what was lowered: in this process, or spread over several as its layout says."""

from __future__ import annotations

from engine.domain.ports import Executor
from engine.requests import OpenRequest
from engine.runtimes.registry import runtime_of


def open_lowered(request: OpenRequest) -> Executor:
    """Ready to answer. Raises StageError."""
    if request.lowered.layout.is_spread:
        from engine.executors.spread.executor import open_spread

        return open_spread(request)
    return open_alone(request)


def open_alone(request: OpenRequest) -> Executor:
    """In this process, whatever the layout says."""
    runtime = runtime_of(request.lowered.runtime)
    return runtime.open(request.lowered, request.card, request.workload, request.threads)
