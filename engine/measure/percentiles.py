"""Percentiles, only where there are enough samples to speak of them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from engine.domain.metrics import LATENCY_P90, LATENCY_P95, LATENCY_P99

FEWEST_SAMPLES = {50: 1, 90: 64, 95: 130, 99: 662}
"""Queries MLPerf's load generator wants for a percentile at 99 % confidence."""

TAILS = {90: LATENCY_P90, 95: LATENCY_P95, 99: LATENCY_P99}
"""The metric of each percentile of latency beyond the median."""


def percentile(samples: ArrayLike, p: int) -> float | None:
    """The p-th percentile, or None when there are too few samples for it.

    p: 50, 90, 95 or 99. Linear between order statistics.
    """
    values = np.asarray(samples, dtype=np.float64)
    if values.size < FEWEST_SAMPLES[p]:
        return None
    return float(np.percentile(values, p))


def missing(count: int, p: int) -> int:
    """How many samples more the p-th percentile needs than these `count`; 0 when there are enough."""
    return max(0, FEWEST_SAMPLES[p] - count)


def percentile_interval(samples: ArrayLike, p: int) -> tuple[float, float]:
    """95 % interval by order statistics (binomial, normal approximation)."""
    values = np.sort(np.asarray(samples, dtype=np.float64))
    share = p / 100
    middle, half = values.size * share, 1.96 * math.sqrt(values.size * share * (1 - share))
    low = max(0, math.floor(middle - half))
    high = min(values.size - 1, math.ceil(middle + half))
    return float(values[low]), float(values[high])
