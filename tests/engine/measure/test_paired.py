"""Hodges–Lehmann and the signed-rank interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.measure.paired import centre

differences = st.lists(st.floats(-1, 1), min_size=2, max_size=30).map(np.array)


def test_the_interval_is_the_textbooks() -> None:
    """Ten values leave out the eight smallest and largest of their 55 pairwise means, for 95.1 %."""
    values = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30, 0.87])
    means = sorted((a + b) / 2 for i, a in enumerate(values) for b in values[i:])
    middle, (low, high) = centre(values)
    assert middle == pytest.approx(float(np.median(means)))
    assert (low, high) == (pytest.approx(means[8]), pytest.approx(means[-9]))


@given(differences, st.floats(-1, 1))
@settings(deadline=None)
def test_it_moves_with_the_differences(values: np.ndarray, shift: float) -> None:
    middle, (low, high) = centre(values)
    assert low <= middle <= high
    moved, (moved_low, moved_high) = centre(values + shift)
    assert (moved, moved_low, moved_high) == pytest.approx((middle + shift, low + shift, high + shift), abs=1e-9)


@given(differences)
@settings(deadline=None)
def test_it_turns_about_with_its_sign(values: np.ndarray) -> None:
    middle, (low, high) = centre(values)
    assert centre(-values) == (pytest.approx(-middle, abs=1e-12), (pytest.approx(-high, abs=1e-12), pytest.approx(-low, abs=1e-12)))


@pytest.mark.parametrize("count", [6, 10, 20, 60])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_it_covers_what_it_says_also_with_heavy_tails(count: int, confidence: float) -> None:
    rng = np.random.default_rng(count)
    covered = 0
    for _ in range(1000):
        _, (low, high) = centre(rng.standard_t(2, count), confidence)
        covered += low <= 0 <= high
    # at least what is promised, less three standard errors of 1,000 draws
    assert covered / 1000 >= confidence - 3 * math.sqrt(confidence * (1 - confidence) / 1000)


def test_too_few_rounds_for_99_percent_promise_nothing() -> None:
    assert centre(np.arange(7.0), 0.99)[1] == (-math.inf, math.inf)


def test_one_wild_round_in_twenty_moves_little() -> None:
    steady = np.linspace(-0.01, 0.01, 19)
    middle, (low, high) = centre(np.append(steady, 5.0))
    assert abs(middle) < 0.002 and low > -0.005 and high < 0.005
