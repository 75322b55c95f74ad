"""95 % bootstrap intervals of statistics that depend on sums over items."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.domain.metrics import Measurement, Metric
from engine.domain.ports import Array

RESAMPLES = 1000
_CHUNK = 2**22
"""Resampled counts held at a time (items × resamples)."""

Statistic = Callable[[Array], Array]
"""Sums of each column, shape (resamples, columns), to one value a resample."""


def measured(metric: Metric, columns: Array, statistic: Statistic) -> Measurement:
    """The statistic over all items, with its percentile interval.

    `columns` is (items, k); resampling draws whole items, with a fixed seed. A single
    item has no interval.
    """
    columns = np.asarray(columns, dtype=np.float64)
    value = float(statistic(columns.sum(axis=0, keepdims=True))[0])
    if len(columns) < 2:
        return Measurement(metric.name, metric.unit, value, None, len(columns))
    low, high = np.percentile(statistic(_resampled_sums(columns)), [2.5, 97.5])
    return Measurement(metric.name, metric.unit, value, (float(low), float(high)), len(columns))


def mean_of(metric: Metric, values: Array) -> Measurement:
    """The mean of one value an item."""
    values = np.asarray(values, dtype=np.float64)
    return measured(metric, np.stack([values, np.ones_like(values)], axis=1), lambda sums: sums[:, 0] / sums[:, 1])


def largest_of(metric: Metric, values: Array) -> Measurement:
    """The largest of one value an item. A resample cannot exceed what was seen: the interval ends there."""
    values = np.asarray(values, dtype=np.float64)
    largest = float(values.max())
    if len(values) < 2:
        return Measurement(metric.name, metric.unit, largest, None, len(values))
    drawn = values[resampled_places(len(values), RESAMPLES // 2)].max(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Measurement(metric.name, metric.unit, largest, (float(low), float(high)), len(values))


def resampled_places(items: int, resamples: int) -> Array:
    """(resamples, items) places drawn with replacement, for statistics that sums cannot say."""
    return np.random.default_rng(0).integers(0, items, (resamples, items))


def _resampled_sums(columns: Array) -> Array:
    rng = np.random.default_rng(0)
    items = len(columns)
    share = np.full(items, 1 / items)
    step = max(1, _CHUNK // items)
    sizes = [min(step, RESAMPLES - done) for done in range(0, RESAMPLES, step)]
    return np.concatenate([rng.multinomial(items, share, size=size) @ columns for size in sizes])
