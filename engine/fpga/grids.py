"""Integer grids for real numbers: scale and zero point, chosen on observed values.

    real = (integer - zero_point) * scale

An outlier stretches the grid for all others; the grid is therefore tried with its ends
drawn in step by step and the one with the least squared error on the observed values is
taken (as in Banner et al. 2019, arXiv 1810.05723, by trial instead of by formula).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.fpga.fixed_point import Integers, integer_type, limits

Reals = NDArray[np.floating]
DRAWN_IN = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Shares of the observed range that are tried."""
TOWARDS_LOW = (0.0, 0.25, 0.5, 0.75, 0.875, 0.94)
"""Zero points that are tried for rows, as shares of the way from 0 to the lowest integer."""
_LEAST = 1e-12
"""Range of values that are all zero."""


@dataclass(frozen=True, slots=True)
class Grid:
    """One scale and zero point for a tensor."""

    scale: float
    zero_point: int
    bits: int

    def integers(self, values: Reals) -> Integers:
        """Rounded to even, clamped to the grid."""
        low, high = limits(self.bits)
        found: Integers = np.clip(np.rint(values / self.scale) + self.zero_point, low, high).astype(integer_type(self.bits))
        return found

    def reals(self, integers: Integers) -> Reals:
        return (integers.astype(np.float32) - self.zero_point) * np.float32(self.scale)

    def error(self, values: Reals, unit: Reals | float = 1.0) -> float:
        """Mean square of what is lost of `values`, each in so large a unit."""
        return float(np.square((self.reals(self.integers(values)) - values) * unit).mean())


def grid_for(values: Reals, bits: int, *, symmetric: bool = False) -> Grid:
    """The best grid for observed values; 0.0 is always on it, so that padding is exact."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if symmetric:
        high = max(-low, high)
        low = -high
    tried = [_grid(low * share, high * share, bits, symmetric) for share in DRAWN_IN]
    return min(tried, key=lambda grid: grid.error(values))


def row_scales(values: Reals, zero_point: int, bits: int) -> Reals:
    """The scale of each row (last axis) with which it just fits the grid, as (…, 1)."""
    low, high = limits(bits)
    above, below = values.max(axis=-1, keepdims=True) / (high - zero_point), values.min(axis=-1, keepdims=True) / (low - zero_point)
    scales: Reals = np.maximum(np.maximum(above, below), _LEAST)
    return scales


def row_zero_point(values: Reals, bits: int) -> int:
    """The zero point with which rows of their own scales are met best: 0, or nearer to the low end for values that are mostly positive."""
    low, _ = limits(bits)

    def error(zero_point: int) -> float:
        scales = row_scales(values, zero_point, bits)
        return Grid(1.0, zero_point, bits).error(values / scales, scales)

    # never the lowest integer itself, or nothing negative could be said
    return min({max(round(low * share), low + 1) for share in TOWARDS_LOW}, key=error)


def weight_grids(weights: Reals, bits: int) -> tuple[Integers, Reals]:
    """(K, O) weights as symmetric integers and a scale for each of the O columns."""
    low, high = limits(bits)
    greatest = np.maximum(np.abs(weights).max(axis=0), _LEAST)
    best = np.full(weights.shape[1], np.inf)
    scales = greatest / high
    # eight bits waste little on outliers; four need the ends drawn in
    for share in DRAWN_IN if bits < 8 else DRAWN_IN[:1]:
        scale = greatest * share / high
        error = np.square(np.clip(np.rint(weights / scale), low + 1, high) * scale - weights).sum(axis=0)
        scales, best = np.where(error < best, scale, scales), np.minimum(error, best)
    integers = np.clip(np.rint(weights / scales), low + 1, high).astype(integer_type(bits))
    return integers, scales


def balance(activations: Reals, weights: Reals) -> Reals:
    """What each input channel is divided by, its weights multiplied by (SmoothQuant, Xiao et al. 2022, arXiv 2211.10438, α = ½).

    activations: greatest magnitude of each channel; weights: of each channel's weights.
    """
    known = (activations > 0) & (weights > 0)
    factor = np.sqrt(np.where(known, activations, 1.0) / np.where(known, weights, 1.0))
    return np.clip(np.where(known, factor, 1.0), 1e-3, 1e3).astype(np.float32)


def _grid(low: float, high: float, bits: int, symmetric: bool) -> Grid:
    least, greatest = limits(bits)
    scale = max(high - low, _LEAST) / (greatest - least)
    if symmetric:
        return Grid(max(high, _LEAST) / greatest, 0, bits)
    return Grid(scale, int(np.clip(round(least - low / scale), least, greatest)), bits)
