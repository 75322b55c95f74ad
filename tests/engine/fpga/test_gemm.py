"""The integer executor is exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.errors import InvalidInput
from engine.fpga.fixed_point import Requantization, limits
from engine.fpga.gemm import gemm, sums_of


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 16), st.integers(1, 3000), st.booleans(), st.integers(0, 2**32 - 1))
def test_sums_are_exact_and_wrap_at_32_bits(width: int, depth: int, extremes: bool, seed: int) -> None:
    rng, (low, high) = np.random.default_rng(seed), limits(width)
    shapes = ((3, depth), (depth, 4))
    left, right = (np.full(s, low) if extremes else rng.integers(low, high + 1, s) for s in shapes)
    assert np.array_equal(sums_of(left, right), (left.astype(np.int64) @ right).astype(np.int32))


def test_leading_axes_are_batches() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(-128, 128, (2, 3, 5, 7)), rng.integers(-128, 128, (2, 3, 7, 4))
    assert np.array_equal(sums_of(left, right), left @ right)


def test_what_does_not_fit_is_refused() -> None:
    plain = Requantization.of_scales(np.ones(2))
    with pytest.raises(InvalidInput, match="K differs"):
        gemm(np.zeros((1, 3), int), np.zeros((4, 2), int), plain)
    with pytest.raises(InvalidInput, match="do not fit 8 bits"):
        gemm(np.full((1, 3), 128), np.zeros((3, 2), int), plain)
    with pytest.raises(InvalidInput, match="each column"):
        gemm(np.zeros((1, 3), int), np.zeros((3, 1), int), plain)
