"""Rounds and what a block learned, summed up as measurements (worker side)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from engine.domain.experiment import Round
from engine.domain.load import LoadResult, Pattern
from engine.domain.metrics import (
    ACTIVATIONS_MEMORY,
    DEVICE_LATENCY,
    DEVICE_MEMORY,
    ENERGY,
    FIRST_CALL,
    HIGHEST_RATE,
    LATENCY,
    LOAD_LATENCY,
    METRICS,
    OFFLINE_THROUGHPUT,
    PEAK_MEMORY,
    SIZE,
    THROUGHPUT,
    TIME_PER_OUTPUT_TOKEN,
    TIME_TO_FIRST_TOKEN,
    WEIGHTS_MEMORY,
    Measurement,
    Metric,
)
from engine.measure.block import Measured
from engine.measure.bootstrap import Samples, median_interval
from engine.measure.percentiles import TAILS, percentile, percentile_interval
from engine.measure.repetitions import FEWEST_PROCESSES

_TIMED = (LATENCY, DEVICE_LATENCY, TIME_TO_FIRST_TOKEN, TIME_PER_OUTPUT_TOKEN, ENERGY)


def summarize(rounds: Sequence[Round], measured: Measured, size_bytes: int) -> tuple[Measurement, ...]:
    """All of a run's measurements, in the order of METRICS.

    `rounds` may come from several blocks; there is at least one sample of latency.
    """
    found = [m for metric in _TIMED if (m := _timed(metric, rounds))]
    latency = next(m for m in found if m.name == LATENCY.name)
    found += _tails(rounds)
    found += [
        _throughput(latency, measured.items_per_call),
        _first_call(measured),
        _single(PEAK_MEMORY, measured.peak_memory_bytes),
        *_memory(measured),
        *(_load(measured.load) if measured.load else ()),
        size_of(size_bytes),
        *measured.quality,
    ]
    return in_order(found)


def in_order(found: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """As METRICS lists them; what it does not list comes last."""
    order = list(METRICS)
    return tuple(sorted(found, key=lambda m: order.index(m.name) if m.name in METRICS else len(order)))


def size_of(size_bytes: int) -> Measurement:
    """What the lowered files take on disk."""
    return _single(SIZE, size_bytes)


def _memory(measured: Measured) -> list[Measurement]:
    examined = measured.examined
    if examined is None:
        return []
    parts = (
        (WEIGHTS_MEMORY, examined.weights_bytes), (ACTIVATIONS_MEMORY, examined.activations_bytes), (DEVICE_MEMORY, examined.device_bytes),
    )  # fmt: skip
    return [_single(metric, value) for metric, value in parts if value]


def _load(load: LoadResult) -> list[Measurement]:
    """The point to boast of, in the figure that its pattern is known by; nothing where no point holds."""
    best = load.best if load.pattern is not Pattern.SERVER or len(load.points) > 1 else load.points[0]
    if best is None:
        return []
    found = []
    if load.pattern is Pattern.OFFLINE:
        found.append((OFFLINE_THROUGHPUT, best.throughput))
    if load.pattern is Pattern.SERVER and best.meets:
        found.append((HIGHEST_RATE, best.rate))
    if load.percentile in best.latencies and load.pattern is not Pattern.OFFLINE:
        found.append((LOAD_LATENCY, best.latencies[load.percentile]))
    return [Measurement(metric.name, metric.unit, value, None, best.queries) for metric, value in found]


def _timed(metric: Metric, rounds: Sequence[Round]) -> Measurement | None:
    """Median of all samples, its interval by resampling processes (rounds, where there are too few), then samples."""
    samples = _by_process(metric, rounds)
    if not samples:
        return None
    pooled = np.concatenate(samples)
    return Measurement(metric.name, metric.unit, float(np.median(pooled)), median_interval(samples), pooled.size)


def _tails(rounds: Sequence[Round]) -> list[Measurement]:
    """The percentiles there are samples enough for."""
    pooled = np.concatenate(_samples(LATENCY, rounds))
    return [
        Measurement(metric.name, metric.unit, value, percentile_interval(pooled, p), pooled.size)
        for p, metric in TAILS.items()
        if (value := percentile(pooled, p)) is not None
    ]


def _throughput(latency: Measurement, items_per_call: int) -> Measurement:
    """Items a second of calls one after another, from the latency and its interval."""

    def per_second(ms: float) -> float:
        return items_per_call * 1e3 / ms

    ci95 = (per_second(latency.ci95[1]), per_second(latency.ci95[0])) if latency.ci95 else None
    return Measurement(THROUGHPUT.name, THROUGHPUT.unit, per_second(latency.median), ci95, latency.samples)


def _first_call(measured: Measured) -> Measurement:
    first = [opened.first_call for opened in measured.opened]
    return Measurement(FIRST_CALL.name, FIRST_CALL.unit, float(np.median(first)), None, len(first))


def _single(metric: Metric, value: float) -> Measurement:
    return Measurement(metric.name, metric.unit, float(value), None, 1)


def _by_process(metric: Metric, rounds: Sequence[Round]) -> list[Samples]:
    found: dict[int, list[Samples]] = defaultdict(list)
    for each in rounds:
        found[each.block] += _samples(metric, [each])
    joined = [np.concatenate(samples) for samples in found.values() if samples]
    return joined if len(joined) >= FEWEST_PROCESSES else _samples(metric, rounds)


def _samples(metric: Metric, rounds: Sequence[Round]) -> list[Samples]:
    return [np.asarray(r.samples[metric.name], dtype=np.float64) for r in rounds if r.samples.get(metric.name)]
