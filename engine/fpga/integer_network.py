"""A network's products as integers: what the array computes, chosen from what calibration observed.

Scheme. Every product has int operands and one requantization (engine.fpga.fixed_point):

    first operand   asymmetric; each input channel of a linear layer is first divided by a factor that its weights
                    are multiplied by (SmoothQuant)
                    one scale for the tensor; of a linear layer one for each row (token) if that lessens the error
                    by a bit or more: the host multiplies it into the results (token-wise as in ZeroQuant, Yao et
                    al. 2022, arXiv 2206.01861) and adds the bias there
    weights         per output channel, symmetric; a batch normalisation that follows is multiplied in
    attention       both operands per head: queries, keys and values symmetric, shares from 0 to 1
    output          per channel where the host reads it (of by-row layers in units of the row's scale); where the next
                    product reads it, that product's grid, so that integers go straight on

Torch-free: what a placement wrote is read by the dashboard as well. The host works in fp32: embeddings, normalisation, softmax, GELU and other activations, residual sums, pooling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.domain.errors import StageError
from engine.fpga.array import Precision
from engine.fpga.fixed_point import Integers, Requantization, limits
from engine.fpga.gemm import sums_of
from engine.fpga.grids import Grid, Reals, balance, grid_for, row_scales, row_zero_point, weight_grids
from engine.fpga.machine import RowScaling
from engine.fpga.observed import Observed, ProductKind

HEADROOM = 1.1
"""Outputs that saturate cost more than a tenth of the resolution."""
A_BIT = 4.0
"""What one bit more lessens a squared error by."""
USUAL_SHARE = 0.9
"""An output channel is given at least the range that this share of the channels stay within, for the length of their weights: in so
little data as calibration is, no word may have called for it, and what saturates then costs more than a bit of resolution."""
_MOST_BIAS = 2**30
_ROWS_AT_ONCE = 256
"""Of which outputs are computed to find their ranges: a vocabulary is wide."""


@dataclass(frozen=True, slots=True, eq=False)
class IntegerProduct:
    """One product of a pass. Arrays that a kind has no use for are empty.

    first_scale     one, or one a head; by row: 1, the row's own scale is its unit
    first_zero      one, or one a head
    divisor         of each input channel; empty: none
    weights         (K, O) of one group; groups one behind the other along O; empty: an activation
    second_scale    one a head, of an activation
    multipliers …   one a column, or one a head
    out_scale       one a column, or one a head; by row: in units of the row's scale
    host_bias       one a column, real, where rows have their own scales; empty: one scale for all
    """

    name: str
    kind: ProductKind
    shape: tuple[int, int, int, int]
    first_scale: Reals
    first_zero: NDArray[np.int64]
    divisor: Reals
    weights: Integers
    second_scale: Reals
    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int32]
    out_zero: int
    out_scale: Reals
    host_bias: Reals
    relu: bool
    folded: bool
    """A batch normalisation is part of it."""
    bits: tuple[int, int]
    """Of weights, of activations."""

    @property
    def width(self) -> int:
        return max(self.bits)

    @property
    def by_row(self) -> bool:
        """Each row of the first operand has a scale of its own."""
        return self.host_bias.size > 0

    def first_grid(self, head: int = 0) -> Grid:
        """Of the first operand, divided; by row: in units of the row's scale."""
        return Grid(float(self.first_scale[head]), int(self.first_zero[head]), self.bits[1])

    def requantization(self, columns: slice | int = slice(None)) -> Requantization:
        """Of some columns, or of one head (an int), whose columns are all alike and as many as there are."""
        if isinstance(columns, int):
            count = self.shape[2]
            return Requantization(
                np.zeros(count, np.int32), np.full(count, self.multiplier[columns]), np.full(count, self.shift[columns]),
                self.out_zero, self.relu, self.bits[1],
            )  # fmt: skip
        return Requantization(
            self.bias[columns], self.multiplier[columns], self.shift[columns], self.out_zero, self.relu, self.bits[1]
        )


_EMPTY = np.zeros(0, np.float32)


def integer_products(observed: Sequence[Observed], precision: Precision) -> tuple[IntegerProduct, ...]:
    """All products of a pass. Raises StageError when nothing was observed."""
    if not observed:
        raise StageError("This model multiplies no matrices, so there is nothing for the array.", mend="Use a runtime instead.")
    groups = _sharing(observed)
    feeding = {seen.fed_by for seen in observed if _has_weights(seen)}
    grids = {
        place: _first_grid([observed[m] for m in members], precision, straight=not feeding.isdisjoint(members))
        for place, members in groups.items()
        if _has_weights(observed[place])
    }
    straight = {seen.fed_by: grids[seen.shared_with] for seen in reversed(observed) if _fed(seen, grids)}
    return tuple(
        _weighted(seen, precision, grids[seen.shared_with], straight.get(place))
        if _has_weights(seen)
        else _of_activations(seen, precision)
        for place, seen in enumerate(observed)
    )


def _has_weights(seen: Observed) -> bool:
    return seen.product is not ProductKind.MATMUL


def _fed(seen: Observed, grids: Mapping[int, _FirstGrid]) -> bool:
    return seen.fed_by is not None and _has_weights(seen) and seen.shared_with in grids


def _sharing(observed: Sequence[Observed]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for place, seen in enumerate(observed):
        groups.setdefault(seen.shared_with, []).append(place)
    return groups


def row_scalings(products: Sequence[IntegerProduct], observed: Sequence[Observed]) -> dict[str, RowScaling]:
    """By layer, what the host does for rows with their own scales."""
    return {
        seen.name: RowScaling(first=seen.shared_with == place, fetches=seen.from_array, returns=seen.to_array)
        for place, (product, seen) in enumerate(zip(products, observed, strict=True))
        if product.by_row
    }


@dataclass(frozen=True, slots=True, eq=False)
class _FirstGrid:
    grid: Grid
    """By row: of a row in units of its scale."""
    divisor: Reals
    rows: Reals
    """Observed, divided."""
    by_row: bool


def _first_grid(members: Sequence[Observed], precision: Precision, *, straight: bool) -> _FirstGrid:
    """One grid for all products that read the same tensor, so that it is sent once. straight: one's integers go on."""
    leader, bits = members[0], precision.activations
    rows = np.concatenate(leader.rows)
    divisor = _EMPTY
    linear = all(seen.product is ProductKind.LINEAR for seen in members)
    if linear:
        assert leader.first_greatest is not None
        weights = np.max([np.abs(_weights(seen)).max(axis=0) for seen in members], axis=0)
        divisor = balance(leader.first_greatest, weights)
        rows = rows / divisor
    grid = grid_for(rows, bits)
    if linear and leader.fed_by is None and not straight and not any(seen.relu or seen.normalisation for seen in members):
        by_row = Grid(1.0, row_zero_point(rows, bits), bits)
        scales = row_scales(rows, by_row.zero_point, bits)
        if grid.error(rows) > A_BIT * by_row.error(rows / scales, scales):
            return _FirstGrid(by_row, divisor, rows, by_row=True)
    return _FirstGrid(grid, divisor, rows, by_row=False)


def _weights(seen: Observed) -> Reals:
    """With what is folded in, (O, …)."""
    assert seen.weight is not None
    if seen.normalisation is None:
        return seen.weight
    return seen.weight * seen.normalisation[0].reshape(-1, *([1] * (seen.weight.ndim - 1)))


def _bias(seen: Observed) -> Reals:
    assert seen.weight is not None
    bias = np.zeros(seen.weight.shape[0]) if seen.bias is None else seen.bias
    return bias if seen.normalisation is None else bias * seen.normalisation[0] + seen.normalisation[1]


def _weighted(seen: Observed, precision: Precision, first: _FirstGrid, straight: _FirstGrid | None) -> IntegerProduct:
    matrix = _weights(seen).reshape(len(_weights(seen)), -1).T.astype(np.float64)
    if first.divisor.size:
        matrix = matrix * first.divisor[:, None]
    integers, weight_scale = weight_grids(matrix, precision.weights)
    unit = first.grid.scale * weight_scale
    bias = np.zeros(len(unit)) if first.by_row else np.clip(np.rint(_bias(seen) / unit), -_MOST_BIAS, _MOST_BIAS)
    whole = bias.astype(np.int64) - first.grid.zero_point * integers.astype(np.int64).sum(axis=0)
    if first.by_row:
        out_scale, out_zero = _row_out_scale(first, integers, unit), 0
    else:
        out_scale, out_zero = _out_grid(seen, precision) if straight is None else _straight_on(straight, len(unit))
    made = Requantization.of_scales(unit / out_scale, whole.astype(np.int32), zero_point=out_zero, width=precision.activations)
    return IntegerProduct(
        name=seen.name, kind=seen.product, shape=seen.shape, first_scale=np.array([first.grid.scale]),
        first_zero=np.array([first.grid.zero_point]), divisor=first.divisor, weights=integers, second_scale=_EMPTY,
        bias=made.bias, multiplier=made.multiplier, shift=made.shift, out_zero=out_zero, out_scale=out_scale,
        host_bias=_bias(seen).astype(np.float32) if first.by_row else _EMPTY, relu=seen.relu,
        folded=seen.normalisation is not None, bits=(precision.weights, precision.activations),
    )  # fmt: skip


def _row_out_scale(first: _FirstGrid, weights: Integers, unit: Reals) -> Reals:
    """A scale a column, in units of the row's scale, with room for what calibration did not see."""
    bits, zero_point = first.grid.bits, first.grid.zero_point
    offset = zero_point * weights.astype(np.int32).sum(axis=0)
    greatest = np.zeros(weights.shape[1])
    for start in range(0, len(first.rows), _ROWS_AT_ONCE):
        rows = first.rows[start : start + _ROWS_AT_ONCE]
        integers = first.grid.integers(rows / row_scales(rows, zero_point, bits))
        greatest = np.maximum(greatest, np.abs(sums_of(integers, weights) - offset).max(axis=0))
    _, high = limits(bits)
    return np.maximum(greatest * unit * HEADROOM, 1e-9) / high


def _out_grid(seen: Observed, precision: Precision) -> tuple[Reals, int]:
    """A scale a channel and one zero point, for the host to read, with room for what calibration did not see."""
    assert seen.out_low is not None and seen.out_high is not None
    least, most = seen.out_low * HEADROOM, seen.out_high * HEADROOM
    low, high = limits(precision.activations)
    if seen.relu:
        return np.maximum(most, 1e-9) / (high - low), low
    return np.maximum(_at_least_usual(np.maximum(-least, most), _weights(seen)), 1e-9) / high, 0


def _at_least_usual(greatest: Reals, weights: Reals) -> Reals:
    """greatest: of each output channel, as observed. weights: (O, …)."""
    lengths = np.maximum(np.linalg.norm(weights.reshape(len(weights), -1), axis=1), 1e-9)
    enough: Reals = np.maximum(greatest, np.quantile(greatest / lengths, USUAL_SHARE) * lengths)
    return enough


def _straight_on(first: _FirstGrid, channels: int) -> tuple[Reals, int]:
    """The grid on which the next product takes it."""
    divisor = first.divisor if first.divisor.size else np.ones(channels)
    return first.grid.scale * divisor.astype(np.float64), first.grid.zero_point


def _of_activations(seen: Observed, precision: Precision) -> IntegerProduct:
    assert seen.first_heads is not None and seen.second_heads is not None
    assert seen.out_low is not None and seen.out_high is not None
    _, high = limits(precision.activations)
    first_scale, first_zero = _head_grids(seen.first_heads, precision.activations)
    second_scale = np.maximum(np.abs(seen.second_heads).max(axis=0), 1e-9) / high
    out_scale = np.maximum(np.maximum(-seen.out_low, seen.out_high), 1e-9) / high
    made = Requantization.of_scales(first_scale * second_scale / out_scale, width=precision.activations)
    return IntegerProduct(
        name=seen.name, kind=seen.product, shape=seen.shape, first_scale=first_scale, first_zero=first_zero, divisor=_EMPTY,
        weights=np.zeros((0, 0), np.int8), second_scale=second_scale, bias=made.bias, multiplier=made.multiplier,
        shift=made.shift, out_zero=0, out_scale=out_scale, host_bias=_EMPTY, relu=False, folded=False,
        bits=(precision.activations, precision.activations),
    )  # fmt: skip


def _head_grids(ranges: Reals, bits: int) -> tuple[Reals, NDArray[np.int64]]:
    """Symmetric; where nothing is negative (shares of a softmax) the whole grid is used."""
    low, high = limits(bits)
    symmetric = np.maximum(np.abs(ranges).max(axis=0), 1e-9) / high
    positive = ranges[0] >= 0
    scale = np.where(positive, np.maximum(ranges[1], 1e-9) / (high - low), symmetric)
    return scale, np.where(positive, low, 0).astype(np.int64)
