"""The one definition of requantization, shared bit for bit with `rtl/requantizer.v`.

    y = clamp(((sum + bias) * multiplier + 2^(shift-1)) >> shift) + zero point)

A sum of integer products (int32) becomes an element of the output's integer grid: the real factor
activation scale x weight scale / output scale is written as multiplier x 2^-shift, as in gemmlowp and TFLite
(Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
arXiv:1712.05877, section 2.2; tensorflow/lite/kernels/internal/common.cc, MultiplyByQuantizedMultiplier with
TFLITE_SINGLE_ROUNDING: one rounding, half up). One thing differs: their multiplier has 31 bits, ours 16, because
32 x 16 bits are two 18 x 18 products. The factor is off by at most 2^-16 of itself, so an 8-bit result differs only
where the exact value lies within 127 * 2^-16 = 0.002 of a rounding border.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.domain.errors import InvalidInput

Integers = NDArray[np.signedinteger[Any]]

ACCUMULATOR_BITS = 32
MULTIPLIER_BITS = 16
SHIFTS = range(1, 65)
"""Shifts that fit the core's six bits (written less one)."""
WIDTHS = range(2, 17)
"""Bits of an operand for which core and executor are built."""


@dataclass(frozen=True, slots=True, eq=False)
class Requantization:
    """What turns sums into outputs: bias, multiplier and shift for each output channel, and the output's grid.

    Raises InvalidInput when something does not fit the core's registers.
    """

    bias: NDArray[np.int32]
    """(channels,). An input zero point z is folded in: bias - z * sum of the channel's weights."""
    multiplier: NDArray[np.int32]
    """(channels,), 0 to 2^16 - 1."""
    shift: NDArray[np.int32]
    """(channels,), 1 to 64."""
    zero_point: int = 0
    """The output's integer for 0.0."""
    relu: bool = False
    """Nothing below the zero point."""
    width: int = 8
    """Bits of an output element."""

    def __post_init__(self) -> None:
        if not self.bias.shape == self.multiplier.shape == self.shift.shape or self.bias.ndim != 1:
            raise InvalidInput("Bias, multiplier and shift must have one entry for each channel.", where="requantize")
        if self.width not in WIDTHS:
            raise InvalidInput(f"{self.width} bits are not offered.", mend="2 to 16 bits are.", where="width")
        low, high = limits(self.width)
        if not low <= self.zero_point <= high:
            raise InvalidInput(f"Zero point {self.zero_point} is outside {low} to {high}.", where="zero_point")
        if np.any((self.multiplier < 0) | (self.multiplier >= 1 << MULTIPLIER_BITS)):
            raise InvalidInput("A multiplier is outside 0 to 65535.", where="multiplier")
        if np.any((self.shift < SHIFTS.start) | (self.shift >= SHIFTS.stop)):
            raise InvalidInput("A shift is outside 1 to 64.", where="shift")

    @staticmethod
    def of_scales(
        scales: ArrayLike, bias: ArrayLike | None = None, *, zero_point: int = 0, relu: bool = False, width: int = 8
    ) -> Requantization:
        """From real factors (activation scale x weight scale / output scale), one for each channel."""
        multiplier, shift = quantize_multiplier(scales)
        whole = np.zeros(multiplier.shape, np.int32) if bias is None else np.asarray(bias, np.int32)
        return Requantization(whole, multiplier, shift, zero_point, relu, width)

    def apply(self, sums: Integers) -> Integers:
        """Sums (…, channels), int32, to outputs of the same shape, in the smallest integer type that holds `width`."""
        biased = (sums.astype(np.int32) + self.bias).astype(np.int64)  # wraps at 32 bits, as the core's adder does
        product = biased * self.multiplier
        # half is added after all but one bit are shifted out: the same number, and nothing can overflow
        rounded = ((product >> np.minimum(self.shift - 1, 63)) + 1) >> 1
        low, high = limits(self.width)
        clamped = np.clip(rounded + self.zero_point, self.zero_point if self.relu else low, high)
        outputs: Integers = clamped.astype(integer_type(self.width))
        return outputs


def limits(width: int) -> tuple[int, int]:
    """Least and greatest signed integer of so many bits."""
    return -(1 << (width - 1)), (1 << (width - 1)) - 1


def integer_type(width: int) -> type[np.int8] | type[np.int16]:
    """The smallest numpy type that holds so many bits (up to 16)."""
    return np.int8 if width <= 8 else np.int16


def quantize_multiplier(scales: ArrayLike) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Real factors as (multiplier, shift): factor ~ multiplier * 2^-shift, the multiplier in [2^15, 2^16).

    A factor below 2^-49 becomes 0. Raises InvalidInput for a negative, infinite or too great (from 2^15) one.
    """
    factors = np.atleast_1d(np.asarray(scales, np.float64))
    if np.any(~np.isfinite(factors) | (factors < 0)):
        raise InvalidInput("A requantization factor is negative or not finite.", where="scale")
    mantissa, exponent = np.frexp(factors)
    multiplier = np.round(mantissa * (1 << MULTIPLIER_BITS)).astype(np.int64)
    grown = multiplier == 1 << MULTIPLIER_BITS
    multiplier[grown] >>= 1
    shift = MULTIPLIER_BITS - (exponent + grown)
    if np.any(shift < SHIFTS.start):
        raise InvalidInput(
            "A requantization factor is 32768 or more.", mend="Choose a greater output scale.", where="scale"
        )
    vanishes = (multiplier == 0) | (shift >= SHIFTS.stop)
    multiplier[vanishes], shift[vanishes] = 0, 1
    return multiplier.astype(np.int32), shift.astype(np.int32)
