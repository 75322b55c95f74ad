"""What paired rounds say of a difference: Hodges and Lehmann's estimate, Wilcoxon's interval.

Two processes of the same model are exchangeable within a round, so the differences of
their logs are symmetric about zero; the signed-rank interval then covers exactly, whatever the
noise looks like, also with ten rounds, where a bootstrap's is too narrow. The estimate is
nearly as sharp as a mean and as hard to upset as a median.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit  # scipy.stats would cost the dashboard 50 MB

from engine.measure.bootstrap import Samples

FEWEST_ROUNDS = 6
"""With fewer, no sign pattern is rarer than 1 in 20: Student's t takes over."""
_EXACT_ROUNDS = 50
"""Up to here the rank sum's distribution is counted out; beyond, it is as good as normal."""

Interval = tuple[float, float]


def paired_log_ratio(
    pairs: Sequence[tuple[Samples, Samples]], confidence: float = 0.95
) -> tuple[float, Interval]:
    """The typical log(median first ÷ median second) over rounds, and its interval.

    pairs: at least one; what was timed in the same round, all positive.
    """
    return centre(np.array([math.log(np.median(first) / np.median(second)) for first, second in pairs]), confidence)


def centre(differences: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, Interval]:
    """The middle of a symmetric distribution from independent draws, and its interval.

    The median of all pairwise means; the interval is infinite where so few draws
    cannot carry the confidence, and a single draw's is itself.
    """
    count = differences.size
    if count == 1:
        only = float(differences[0])
        return only, (only, only)
    if count < FEWEST_ROUNDS:
        return _students(differences, confidence)
    first, second = np.triu_indices(count)
    means = np.sort((differences[first] + differences[second]) / 2)
    outside = _cut(count, confidence)
    ends = (float(means[outside - 1]), float(means[-outside])) if outside else (-math.inf, math.inf)
    return float(np.median(means)), ends


def _students(differences: NDArray[np.float64], confidence: float) -> tuple[float, Interval]:
    middle = float(differences.mean())
    quantile = float(stdtrit(differences.size - 1, (1 + confidence) / 2))
    half = quantile * float(differences.std(ddof=1)) / math.sqrt(differences.size)
    return middle, (middle - half, middle + half)


def _cut(count: int, confidence: float) -> int:
    """Which of the sorted pairwise means, from either end, bounds the interval; 0: none does."""
    tail = (1 - confidence) / 2
    if count > _EXACT_ROUNDS:
        spread = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
        return max(0, math.floor(count * (count + 1) / 4 + float(ndtri(tail)) * spread))
    ways = np.zeros(count * (count + 1) // 2 + 1)
    ways[0] = 1
    for rank in range(1, count + 1):
        ways[rank:] += ways[:-rank].copy()
    return int(np.searchsorted(np.cumsum(ways) / 2.0**count, tail, side="right"))
