"""The load generator on a clock that is played: queues, batches and the search come out as queueing theory says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from engine.domain.load import LoadPoint, LoadResult, Pattern
from engine.measure.load import Query, arrivals, blocking, highest_rate, offline, server, stream


@dataclass
class Played:
    """A clock that moves when somebody sleeps or works."""

    time: float = 100.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock() -> Played:
    return Played()


def working(clock: Played, seconds: Callable[[int], float]) -> Callable[[int], None]:
    def call(items: int) -> None:
        clock.time += seconds(items)

    return call


def test_a_single_stream_has_the_latency_of_one_call(clock: Played) -> None:
    point = stream(blocking(working(clock, lambda items: 0.01)), items=1, seconds=1.0, clock=clock)
    assert point.queries == pytest.approx(100, abs=1)
    assert point.latencies[50] == pytest.approx(10.0) and point.latencies[90] == pytest.approx(10.0)
    assert 95 not in point.latencies
    assert point.throughput == pytest.approx(100.0)


def test_a_multi_stream_query_ends_with_its_last_item(clock: Played) -> None:
    point = stream(blocking(working(clock, lambda items: 0.01 * items)), items=8, seconds=0.1, clock=clock)
    assert point.latencies[50] == pytest.approx(80.0)
    assert point.queries == 3 and point.throughput == pytest.approx(100.0)


def test_offline_is_all_batches_at_once(clock: Played) -> None:
    point = offline(blocking(working(clock, lambda items: 0.02)), batch=16, seconds=1.0, typical=0.02, clock=clock)
    assert point.throughput == pytest.approx(16 / 0.02)
    assert point.batch == 16


def test_arrivals_are_poisson_and_repeat_by_seed() -> None:
    moments = arrivals(50.0, 20_000, 7)
    gaps = np.diff(moments)
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.05)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.05)
    assert (moments == arrivals(50.0, 20_000, 7)).all()
    assert (moments != arrivals(50.0, 20_000, 8)).any()


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_waiting_is_what_queueing_theory_says(load: float, clock: Played) -> None:
    """Poisson arrivals at one server of constant service time (M/D/1) wait load / (2 (1 − load)) services on average."""
    service = 0.01
    taken: list[float] = []

    def call(items: int) -> None:
        clock.time += service

    point = server(blocking(call), rate=load / service, count=40_000, seed=3, clock=clock)
    # the generator keeps percentiles; the mean follows from the queue it emulates
    due = arrivals(load / service, 40_000, 3)
    free = 0.0
    for moment in due:
        free = max(free, moment) + service
        taken.append(free - moment)
    assert np.mean(taken) / service == pytest.approx(1 + load / (2 * (1 - load)), rel=0.08)
    assert point.latencies[99] == pytest.approx(np.percentile(taken, 99) * 1e3, rel=1e-6)
    assert point.throughput == pytest.approx(load / service, rel=0.05)


def test_what_waits_is_asked_together_up_to_the_batch(clock: Played) -> None:
    asked: list[int] = []

    def call(items: int) -> None:
        asked.append(items)
        clock.time += 0.05

    server(blocking(call), rate=100.0, count=500, seed=0, together=4, clock=clock)
    assert sum(asked) == 500
    assert max(asked) == 4 and asked.count(4) > 100


def test_a_server_may_answer_later_from_another_thread() -> None:
    done_by: set[str] = set()

    def submit(query: Query, done: Callable[[], None]) -> None:
        def answer() -> None:
            done_by.add(threading.current_thread().name)
            done()

        threading.Thread(target=answer, name=f"replica-{query.index % 2}").start()

    point = server(submit, rate=2000.0, count=100, seed=0)
    assert point.queries == 100
    assert done_by == {"replica-0", "replica-1"}


def queue(service_ms: float) -> Callable[[float], LoadPoint]:
    """A server whose p90 grows as 1 / (1 − load)."""

    def measure(rate: float) -> LoadPoint:
        load = rate * service_ms / 1e3
        latency = service_ms / (1 - load) if load < 1 else 1e9
        return LoadPoint(throughput=rate, latencies={90: latency}, queries=100, seconds=1.0, rate=rate)

    return measure


@pytest.mark.parametrize(("bound", "expected"), [(50.0, 0.8), (20.0, 0.5), (11.0, 1 / 11)])
def test_the_search_ends_near_the_highest_rate(bound: float, expected: float) -> None:
    points = highest_rate(queue(10.0), capacity=100.0, bound_ms=bound, at=90)
    best = LoadResult(pattern=Pattern.SERVER, points=points, bound_ms=bound).best
    assert best is not None and best.meets
    assert 0.75 * expected <= best.rate / 100.0 <= expected + 1e-9
    assert any(p.meets is False for p in points)


def test_a_bound_below_the_service_time_is_never_met() -> None:
    points = highest_rate(queue(10.0), capacity=100.0, bound_ms=5.0, at=90)
    assert points and all(p.meets is False for p in points)
    assert LoadResult(pattern=Pattern.SERVER, points=points).best is None


def test_without_samples_enough_a_bound_is_not_met() -> None:
    few = LoadPoint(throughput=1.0, latencies={50: 1.0}, queries=3, seconds=1.0, rate=1.0)
    assert all(p.meets is False for p in highest_rate(lambda rate: few, capacity=1.0, bound_ms=5.0, at=90))
