"""What a model does under load: points of latency against throughput, as MLPerf's scenarios give them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Pattern(StrEnum):
    """How queries arrive (MLPerf Inference's scenarios)."""

    SINGLE_STREAM = "single_stream"
    """One query after the other: what every run's rounds measure."""
    MULTI_STREAM = "multi_stream"
    """Several items a query; the next query when all of them are answered."""
    OFFLINE = "offline"
    """All items at once: the most throughput, over several batch sizes."""
    SERVER = "server"
    """Poisson arrivals: the highest rate whose latency stays within a bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPoint:
    """One stretch of load.

    `latencies` in ms by percentile, only those with samples enough; from when a query was
    due, so that waiting counts. `rate` is what was offered, queries a second; 0 where
    queries do not arrive by themselves. `throughput` in items a second.
    """

    throughput: float
    latencies: dict[int, float]
    queries: int
    seconds: float
    rate: float = 0.0
    batch: int = 1
    """Items in one call of the model, or the most that were put together."""
    meets: bool | None = None
    """Whether the latency bound held; None: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """All points of one run under one pattern, in the order they were taken.

    `bound_ms` is judged at `percentile`. `remarks`: what kept points from being taken, how
    replicas gathered requests.
    """

    pattern: Pattern
    points: tuple[LoadPoint, ...]
    bound_ms: float = 0.0
    percentile: int = 90
    remarks: tuple[str, ...] = ()

    @property
    def best(self) -> LoadPoint | None:
        """The point to boast of: of those that meet their bound (all, where there is none) the most throughput."""
        able = [p for p in self.points if p.meets is not False]
        return max(able, key=lambda p: p.throughput, default=None)
