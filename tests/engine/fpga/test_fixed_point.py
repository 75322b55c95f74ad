"""Requantization against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.errors import InvalidInput
from engine.fpga.fixed_point import Requantization, limits, quantize_multiplier


def exactly(total: int, bias: int, multiplier: int, shift: int, zero_point: int, relu: bool, width: int) -> int:
    """By the definition, in unbounded arithmetic."""
    biased = (total + bias + 2**31) % 2**32 - 2**31
    rounded = floor(Fraction(biased * multiplier, 2**shift) + Fraction(1, 2))
    low, high = limits(width)
    return min(max(rounded + zero_point, zero_point if relu else low), high)


int32 = st.integers(-(2**31), 2**31 - 1)


@settings(deadline=None, max_examples=60)
@given(
    total=int32,
    bias=int32,
    multiplier=st.integers(0, 2**16 - 1),
    shift=st.integers(1, 64),
    width=st.integers(2, 16),
    relu=st.booleans(),
    data=st.data(),
)
def test_equals_the_definition(
    total: int, bias: int, multiplier: int, shift: int, width: int, relu: bool, data: st.DataObject
) -> None:
    zero_point = data.draw(st.integers(*limits(width)))
    registers = (np.array([value], np.int32) for value in (bias, multiplier, shift))
    answer = Requantization(*registers, zero_point, relu, width).apply(np.array([[total]], np.int32))
    assert int(answer[0, 0]) == exactly(total, bias, multiplier, shift, zero_point, relu, width)


@settings(deadline=None, max_examples=60)
@given(st.floats(2.0**-30, 2.0**14))
def test_a_factor_is_within_half_a_step_of_its_register(scale: float) -> None:
    multiplier, shift = quantize_multiplier(scale)
    assert 2**15 <= multiplier[0] < 2**16
    assert abs(multiplier[0] / 2.0 ** shift[0] - scale) <= scale * 2.0**-16


def test_sixteen_bits_of_multiplier_suffice_for_eight_bits_of_output() -> None:
    """Against the 31 bits of TFLite's multiplier: at most one step, and rarely that."""
    rng = np.random.default_rng(7)
    sums = rng.integers(-(2**20), 2**20, (2000, 50)).astype(np.int32)
    scales = rng.uniform(0.5, 1.5, 50) * 127 / 2**20
    ours = Requantization.of_scales(scales).apply(sums).astype(int)
    mantissa, exponent = np.frexp(scales)
    multiplier, shift = np.round(mantissa * 2**31).astype(np.int64), 31 - exponent.astype(np.int64)
    theirs = np.clip((sums * multiplier + (1 << (shift - 1))) >> shift, -128, 127)
    assert np.abs(ours - theirs).max() <= 1
    assert (ours != theirs).mean() < 0.002


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf"), 2.0**15])
def test_an_impossible_factor_is_refused(scale: float) -> None:
    with pytest.raises(InvalidInput, match="factor"):
        quantize_multiplier(scale)


def test_a_vanishing_factor_gives_the_zero_point() -> None:
    answer = Requantization.of_scales([0.0, 1e-30], zero_point=3).apply(np.array([[2**30, 2**30]], np.int32))
    assert answer.tolist() == [[3, 3]]


def test_registers_that_do_not_fit_are_refused() -> None:
    one = np.ones(1, np.int32)
    for changed in (
        {"zero_point": 200},
        {"multiplier": one * 2**16},
        {"shift": one * 65},
        {"width": 17},
        {"bias": one[:0]},
    ):
        with pytest.raises(InvalidInput):
            Requantization(**{"bias": one, "multiplier": one, "shift": one, **changed})  # type: ignore[arg-type]
