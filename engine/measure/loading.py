"""The load of a workload's pattern, put on an opened model (child side)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from engine.domain.load import LoadPoint, LoadResult, Pattern
from engine.domain.workload import Workload
from engine.measure.clock import no_collection
from engine.measure.load import Submit, blocking, highest_rate, judged, offline, server, stream
from engine.measure.percentiles import FEWEST_SAMPLES

ROUNDS = 2.0
"""A point lasts at least as long as so many rounds, longer where its percentile needs more queries."""
_SEED = 20_260_101


@dataclass(frozen=True, slots=True)
class Server:
    """Who answers: `together` is the most items that it is asked at once when they arrive one by one."""

    submit: Submit
    together: int


def one_call_at_a_time(call: Callable[[], object], batch: int) -> Server:
    """`call` answers up to `batch` items at once, in the caller's thread."""

    def serve(items: int) -> None:
        for _ in range(math.ceil(items / batch)):
            call()

    return Server(blocking(serve), batch)


def load(serving: Server, workload: Workload, typical_ms: float) -> LoadResult:
    """typical_ms: what a call of batch_size items takes."""
    at = int(workload.percentile)
    with no_collection():
        points = _points(serving, workload, workload.batch_size * 1e3 / typical_ms, FEWEST_SAMPLES[at])
    bound = workload.latency_bound if workload.pattern is Pattern.SERVER else 0.0
    return LoadResult(pattern=workload.pattern, points=points, bound_ms=bound, percentile=at)


def _points(serving: Server, workload: Workload, capacity: float, fewest: int) -> tuple[LoadPoint, ...]:
    batch, at, seconds, submit = workload.batch_size, int(workload.percentile), ROUNDS * workload.round_seconds, serving.submit

    def at_rate(rate: float) -> LoadPoint:
        count = max(fewest, math.ceil(rate * seconds))
        return server(submit, rate=rate, count=count, seed=_SEED, together=serving.together)

    match workload.pattern:
        case Pattern.SINGLE_STREAM:
            return (stream(submit, items=batch, seconds=seconds, fewest=fewest),)
        case Pattern.MULTI_STREAM:
            return (stream(submit, items=workload.streams, seconds=seconds, fewest=fewest),)
        case Pattern.OFFLINE:
            return (offline(submit, batch=batch, seconds=seconds, typical=batch / capacity),)
        case Pattern.SERVER if workload.rate:
            return (judged(at_rate(workload.rate), workload.latency_bound, at),)
        case Pattern.SERVER:
            return highest_rate(at_rate, capacity=capacity, bound_ms=workload.latency_bound, at=at)
