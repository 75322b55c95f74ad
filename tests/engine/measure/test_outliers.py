"""Tukey's fences."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.measure.outliers import Outlier, count_outliers, flag_outliers


def test_mild_and_far() -> None:
    # quartiles 10 and 12: fences at 15 and 18
    samples = [*[10.0] * 10, *[12.0] * 10, 14.9, 15.1, 18.1]
    assert [str(f) for f in flag_outliers(samples)[-3:]] == ["", "mild", "far"]


@given(st.lists(st.floats(0.001, 1e6), max_size=200))
def test_every_sample_is_flagged_and_none_dropped(samples: list[float]) -> None:
    flags = flag_outliers(samples)
    assert len(flags) == len(samples) == count_outliers(samples).total()
    # half of the samples lie between the quartiles
    assert 2 * sum(f is Outlier.NONE for f in flags) >= len(samples)


def test_normal_samples_have_few() -> None:
    found = count_outliers(np.random.default_rng(0).normal(10, 1, 10_000))
    assert found[Outlier.MILD] + found[Outlier.FAR] < 150 and found[Outlier.FAR] < 5
