"""Timing calls in the child: what a sample is, and nothing else in the timed region."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from engine.domain.metrics import LATENCY, TIME_PER_OUTPUT_TOKEN, TIME_TO_FIRST_TOKEN

Call = Callable[[], Sequence[float] | None]
"""One call of the model. A generation returns when each token was ready, in seconds from its start."""

SAMPLE_MS = 1.0
"""Shorter calls are timed several at a time, so that the clock's own grain does not show."""
FEWEST_SAMPLES = 3
"""In a turn, however long one call lasts."""
WARM_SECONDS = 5.0
"""Warming up takes no longer, but for the fewest samples."""


def time_calls(call: Call, count: int, enough: float = math.inf) -> list[dict[str, float]]:
    """Up to `count` single calls, each as {metric: ms}; after three, no further one once `enough` seconds have gone."""
    taken: list[dict[str, float]] = []
    end = time.perf_counter() + enough
    with no_collection():
        while len(taken) < count and (len(taken) < FEWEST_SAMPLES or time.perf_counter() < end):
            taken.append(_sample(call, 1))
    return taken


def take_turn(call: Call, seconds: float, *, typical: float) -> dict[str, tuple[float, ...]]:
    """Samples by metric, in ms, from at least `seconds` of calls and at least three samples.

    typical: latency of one call in ms, which decides how many calls a sample spans; a
    sample of several calls is their mean. One call goes before, untimed: while others
    had their turn this model's weights have left the caches.
    """
    calls = calls_per_sample(typical)
    taken: list[dict[str, float]] = []
    with no_collection():
        call()
        end = time.perf_counter() + seconds
        while len(taken) < FEWEST_SAMPLES or time.perf_counter() < end:
            taken.append(_sample(call, calls))
    return {metric: tuple(sample[metric] for sample in taken) for metric in taken[0]}


def calls_per_sample(typical: float) -> int:
    """How many calls of about `typical` ms a sample spans."""
    return max(1, math.ceil(SAMPLE_MS / max(typical, 1e-6)))


def calls_of(samples: Mapping[str, Sequence[float]], typical: float) -> int:
    """How often `take_turn` called to take these samples."""
    return 1 + calls_per_sample(typical) * len(samples[LATENCY.name])


def _sample(call: Call, calls: int) -> dict[str, float]:
    begin = time.perf_counter()
    generations = [call() for _ in range(calls)]
    latency = (time.perf_counter() - begin) / calls
    sample = {LATENCY.name: latency * 1e3}
    tokens = [times for times in generations if times is not None]
    if tokens:
        sample[TIME_TO_FIRST_TOKEN.name] = _mean([times[0] for times in tokens]) * 1e3
        if len(tokens[0]) > 1:
            each = [(times[-1] - times[0]) / (len(times) - 1) for times in tokens]
            sample[TIME_PER_OUTPUT_TOKEN.name] = _mean(each) * 1e3
    return sample


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@contextmanager
def no_collection() -> Iterator[None]:
    """The garbage collector's pauses are Python's, not the model's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
