"""A load generator after MLPerf's, over anything that serves queries (torch-free).

It knows a server only as `Submit`, a callable that takes a query and says when it is
done: an executor in this process, which answers before it returns, or replicas on many
hosts, which answer later and from other threads. Latency runs from the moment a query was
due, not from when it could be handed over: a queue that grows is the server's doing.

Sources: Reddi et al., *MLPerf Inference Benchmark* (2020), sections 4 and 5, and the
rules of MLPerf Inference for scenarios and sample counts.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.domain.load import LoadPoint
from engine.measure.percentiles import FEWEST_SAMPLES, percentile

FEWEST_QUERIES = 3
_SHARES = (0.4, 0.6, 0.8, 0.9, 1.0)
"""Of the server's capacity, at which the curve is drawn before the search goes on between two of them."""
_HALVINGS = 3


@dataclass(frozen=True, slots=True)
class Query:
    """`index` counts from 0; `items` of it are asked at once; `due` in seconds from the beginning."""

    index: int
    items: int
    due: float


Submit = Callable[[Query, Callable[[], None]], None]
"""`submit(query, done)`: answer the query and call `done()` once, from any thread, when all its
items are answered. It may return before that, or only then."""


class Clock(Protocol):
    """Time in seconds, and waiting for it."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class _Wall:
    def now(self) -> float:
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


WALL: Clock = _Wall()


def blocking(call: Callable[[int], object]) -> Submit:
    """A server that answers in the caller's thread: `call(items)` returns when they are answered."""

    def submit(query: Query, done: Callable[[], None]) -> None:
        call(query.items)
        done()

    return submit


@dataclass(slots=True)
class _Log:
    """Latencies as queries end; `wait` returns when none is under way."""

    clock: Clock
    begin: float
    latencies: list[float] = field(default_factory=list)
    last: float = 0.0
    _open: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def submit(self, submit: Submit, query: Query, due: Sequence[float]) -> None:
        """`due`: of each arrival that this query answers together."""
        with self._changed:
            self._open += 1

        def done() -> None:
            now = self.clock.now() - self.begin
            with self._changed:
                self.latencies += [(now - moment) * 1e3 for moment in due]
                self.last = max(self.last, now)
                self._open -= 1
                self._changed.notify_all()

        submit(query, done)

    def wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._open == 0)

    def point(self, items: int, **more: float | int) -> LoadPoint:
        found = {p: percentile(self.latencies, p) for p in FEWEST_SAMPLES}
        return LoadPoint(
            throughput=items / self.last if self.last else 0.0, queries=len(self.latencies), seconds=self.last,
            latencies={p: value for p, value in found.items() if value is not None}, **more,  # type: ignore[arg-type]
        )  # fmt: skip


def stream(submit: Submit, *, items: int, seconds: float, fewest: int = FEWEST_QUERIES, clock: Clock = WALL) -> LoadPoint:
    """Queries of `items` items, each when the one before is answered: single-stream (1 item) and multi-stream.

    At least `seconds` and `fewest` queries.
    """
    log = _Log(clock, clock.now())
    index = 0
    while index < fewest or clock.now() - log.begin < seconds:
        due = clock.now() - log.begin
        log.submit(submit, Query(index, items, due), (due,))
        log.wait()
        index += 1
    return log.point(index * items, batch=items)


def offline(submit: Submit, *, batch: int, seconds: float, typical: float, clock: Clock = WALL) -> LoadPoint:
    """As many batches as `seconds` hold, all handed over at once: the most throughput.

    typical: seconds that one batch takes.
    """
    count = max(FEWEST_QUERIES, math.ceil(seconds / max(typical, 1e-9)))
    log = _Log(clock, clock.now())
    for index in range(count):
        log.submit(submit, Query(index, batch, 0.0), (0.0,))
    log.wait()
    return log.point(count * batch, batch=batch)


def arrivals(rate: float, count: int, seed: int) -> NDArray[np.float64]:
    """Moments in seconds of `count` Poisson arrivals at `rate` a second; the same seed gives the same moments."""
    gaps: NDArray[np.float64] = np.random.default_rng(seed).exponential(1.0, count)
    return np.cumsum(gaps) / rate


def server(
    submit: Submit, *, rate: float, count: int, seed: int, together: int = 1, clock: Clock = WALL
) -> LoadPoint:
    """`count` queries of one item at Poisson moments.

    together: the most items in one query. When several have arrived while a blocking server
    was busy they are asked at once; a server that batches by itself wants 1.
    """
    due = arrivals(rate, count, seed)
    log = _Log(clock, clock.now())
    first = 0
    while first < count:
        wait = due[first] - (clock.now() - log.begin)
        if wait > 0:
            clock.sleep(float(wait))
        now = clock.now() - log.begin
        waiting = int(np.searchsorted(due, now, side="right")) - first
        taken = max(1, min(waiting, together))
        moments = due[first : first + taken]
        log.submit(submit, Query(first, taken, float(moments[0])), [float(m) for m in moments])
        first += taken
    log.wait()
    return log.point(count, rate=rate, batch=together)


def highest_rate(
    measure: Callable[[float], LoadPoint], *, capacity: float, bound_ms: float, at: int
) -> tuple[LoadPoint, ...]:
    """Points on the way to the highest rate whose latency stays within a bound, each marked whether it does.

    measure(rate) makes a point; capacity: items a second that the server does at most, where
    the search begins; at: the percentile that is judged. First shares of the capacity, upwards
    until one fails (or downwards until one holds), then halvings between the two.
    """
    points: list[LoadPoint] = []

    def holds(rate: float) -> bool:
        point = judged(measure(rate), bound_ms, at)
        points.append(point)
        return bool(point.meets)

    low, high = 0.0, 0.0
    for share in _SHARES:
        if not holds(share * capacity):
            high = share * capacity
            break
        low = share * capacity
    if low == 0.0 and high:
        low, high = _downwards(holds, high)
    if low and not high:
        return tuple(points)
    for _ in range(_HALVINGS if low else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return tuple(points)


def _downwards(holds: Callable[[float], bool], failed: float) -> tuple[float, float]:
    """Thirds of a rate that failed until one holds; (0, failed) when even a hundredth does not."""
    high = failed
    for _ in range(4):
        if holds(high / 3):
            return high / 3, high
        high /= 3
    return 0.0, high


def judged(point: LoadPoint, bound_ms: float, at: int) -> LoadPoint:
    """Marked whether its percentile `at` stays within the bound; with too few samples for it, it does not."""
    latency = point.latencies.get(at)
    return replace(point, meets=latency is not None and latency <= bound_ms)
