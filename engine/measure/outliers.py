"""Outliers by Tukey's fences: flagged, never dropped."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

MILD_RANGES, FAR_RANGES = 1.5, 3.0
"""Fences, in interquartile ranges beyond the quartiles."""


class Outlier(StrEnum):
    NONE = ""
    MILD = "mild"
    FAR = "far"


def flag_outliers(samples: ArrayLike) -> list[Outlier]:
    """For each sample whether it lies beyond 1.5 (mild) or 3 (far) interquartile ranges.

    Where half of the samples are equal, the range is zero and whatever differs is far.
    """
    values = np.asarray(samples, dtype=np.float64)
    if not values.size:
        return []
    low, high = np.percentile(values, (25, 75))
    beyond = np.maximum(low - values, values - high)
    spread = high - low
    return [
        Outlier.FAR if b > FAR_RANGES * spread else Outlier.MILD if b > MILD_RANGES * spread else Outlier.NONE
        for b in beyond
    ]


def count_outliers(samples: ArrayLike) -> Counter[Outlier]:
    """How many samples are mild and far outliers, and how many are none."""
    return Counter(flag_outliers(samples))
