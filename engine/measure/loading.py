"""The load of a workload's pattern, put on an opened model (child side)."""

from __future__ import annotations

import math
from collections.abc import Callable

from engine.domain.load import LoadPoint, LoadResult, Pattern
from engine.domain.workload import Workload
from engine.measure.clock import no_collection
from engine.measure.load import Submit, blocking, highest_rate, judged, offline, server, stream
from engine.measure.percentiles import FEWEST_SAMPLES

ROUNDS = 2.0
"""A point lasts at least as long as so many rounds, longer where its percentile needs more queries."""
_SEED = 20_260_101


def load(call: Callable[[], object], workload: Workload, typical_ms: float) -> LoadResult:
    """`call` answers up to batch_size items at once and takes about `typical_ms`."""
    batch, at = workload.batch_size, int(workload.percentile)

    def serve(items: int) -> None:
        for _ in range(math.ceil(items / batch)):
            call()

    submit = blocking(serve)
    capacity = batch * 1e3 / typical_ms
    with no_collection():
        points = _points(submit, workload, capacity, FEWEST_SAMPLES[at])
    bound = workload.latency_bound if workload.pattern is Pattern.SERVER else 0.0
    return LoadResult(pattern=workload.pattern, points=points, bound_ms=bound, percentile=at)


def _points(submit: Submit, workload: Workload, capacity: float, fewest: int) -> tuple[LoadPoint, ...]:
    batch, at, seconds = workload.batch_size, int(workload.percentile), ROUNDS * workload.round_seconds

    def at_rate(rate: float) -> LoadPoint:
        return server(submit, rate=rate, count=max(fewest, math.ceil(rate * seconds)), seed=_SEED, together=batch)

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
