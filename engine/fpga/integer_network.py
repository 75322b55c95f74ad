"""A network's products as integers: what the array computes, chosen from what calibration observed.

Scheme. Every product has int operands and one requantization (engine.fpga.fixed_point):

    first operand   per tensor, asymmetric, after each input channel of a linear layer is divided by a factor
                    that its weights are multiplied by (SmoothQuant)
    weights         per output channel, symmetric; a batch normalisation that follows is multiplied in
    attention       both operands per head: queries, keys and values symmetric, shares from 0 to 1
    output          per channel where the host reads it; where the next product reads it, that product's grid,
                    so that integers go straight on

Torch-free: what a placement wrote is read by the dashboard as well. The host works in fp32: embeddings, normalisation, softmax, GELU and other activations, residual sums, pooling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.domain.errors import StageError
from engine.fpga.array import Precision
from engine.fpga.fixed_point import Integers, Requantization, limits
from engine.fpga.grids import Grid, Reals, balance, grid_for, weight_grids
from engine.fpga.observed import Observed, ProductKind

HEADROOM = 1.1
"""Outputs that saturate cost more than a tenth of the resolution."""
_MOST_BIAS = 2**30
FILE = "integers.npz"


@dataclass(frozen=True, slots=True, eq=False)
class IntegerProduct:
    """One product of a pass. Arrays that a kind has no use for are empty.

    first_scale     one, or one a head
    first_zero      one, or one a head
    divisor         of each input channel; empty: none
    weights         (K, O) of one group; groups one behind the other along O; empty: an activation
    second_scale    one a head, of an activation
    multipliers …   one a column, or one a head
    out_scale       one a column, or one a head
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
    relu: bool
    folded: bool
    """A batch normalisation is part of it."""
    bits: tuple[int, int]
    """Of weights, of activations."""

    @property
    def width(self) -> int:
        return max(self.bits)

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
    grids = {place: _first_grid(observed, members, precision) for place, members in groups.items() if _has_weights(observed[place])}
    straight = {seen.fed_by: grids[seen.shared_with] for seen in reversed(observed) if _fed(seen, grids)}
    return tuple(
        _weighted(seen, precision, grids[seen.shared_with], straight.get(place))
        if _has_weights(seen)
        else _of_activations(seen, precision)
        for place, seen in enumerate(observed)
    )


def save(products: Sequence[IntegerProduct], directory: Path) -> Path:
    """One .npz; nothing in it is code."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for index, product in enumerate(products):
        texts = np.array([product.name, str(product.kind)])
        numbers = np.array([*product.shape, product.out_zero, product.relu, product.folded, *product.bits], np.int64)
        for key in _ARRAYS:
            arrays[f"{index:04d}.{key}"] = getattr(product, key)
        arrays[f"{index:04d}.weights"] = _packed(product)
        arrays |= {f"{index:04d}.texts": texts, f"{index:04d}.numbers": numbers}
    path = directory / FILE
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def load(directory: Path) -> tuple[IntegerProduct, ...]:
    with np.load(directory / FILE, allow_pickle=False) as stored:
        count = sum(name.endswith(".texts") for name in stored.files)
        return tuple(_loaded({key: stored[f"{i:04d}.{key}"] for key in (*_ARRAYS, "texts", "numbers")}) for i in range(count))


_ARRAYS = (
    "first_scale", "first_zero", "divisor", "weights", "second_scale", "bias", "multiplier", "shift", "out_scale",
)  # fmt: skip


def _loaded(arrays: Mapping[str, NDArray[np.generic]]) -> IntegerProduct:
    name, kind = (str(text) for text in arrays["texts"])
    m, k, n, groups, out_zero, relu, folded, weight_bits, activation_bits = (int(v) for v in arrays["numbers"])
    rest = {key: arrays[key] for key in _ARRAYS}
    if weight_bits <= 4 and rest["weights"].size:
        rest["weights"] = _unpacked(rest["weights"].astype(np.uint8), n * groups)
    return IntegerProduct(
        name=name, kind=ProductKind(kind), shape=(m, k, n, groups), out_zero=out_zero, relu=bool(relu), folded=bool(folded),
        bits=(weight_bits, activation_bits), **rest,  # type: ignore[arg-type]
    )  # fmt: skip


def _packed(product: IntegerProduct) -> NDArray[np.generic]:
    """Weights of four bits go two in a byte, the even column in the lower half."""
    if product.bits[0] > 4 or not product.weights.size:
        return product.weights
    columns = product.weights.shape[1]
    even = np.pad(product.weights, ((0, 0), (0, columns % 2))).view(np.uint8) & 15
    return even[:, 0::2] | even[:, 1::2] << 4


def _unpacked(packed: NDArray[np.uint8], columns: int) -> Integers:
    halves = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)[:, :columns].astype(np.int8)
    signed: Integers = np.where(halves > 7, halves - 16, halves).astype(np.int8)
    return signed


def _has_weights(seen: Observed) -> bool:
    return seen.product is not ProductKind.MATMUL


def _fed(seen: Observed, grids: Mapping[int, _FirstGrid]) -> bool:
    return seen.fed_by is not None and _has_weights(seen) and seen.shared_with in grids


def _sharing(observed: Sequence[Observed]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for place, seen in enumerate(observed):
        groups.setdefault(seen.shared_with, []).append(place)
    return groups


@dataclass(frozen=True, slots=True, eq=False)
class _FirstGrid:
    grid: Grid
    divisor: Reals


def _first_grid(observed: Sequence[Observed], members: Sequence[int], precision: Precision) -> _FirstGrid:
    """One grid for all products that read the same tensor, so that it is sent once."""
    leader = observed[members[0]]
    rows = np.concatenate(leader.rows)
    divisor = _EMPTY
    if all(observed[m].product is ProductKind.LINEAR for m in members):
        assert leader.first_greatest is not None
        weights = np.max([np.abs(_weights(observed[m])).max(axis=0) for m in members], axis=0)
        divisor = balance(leader.first_greatest, weights)
        rows = rows / divisor
    return _FirstGrid(grid_for(rows, precision.activations), divisor)


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
    bias = np.clip(np.rint(_bias(seen) / unit), -_MOST_BIAS, _MOST_BIAS).astype(np.int64)
    bias -= first.grid.zero_point * integers.astype(np.int64).sum(axis=0)
    out_scale, out_zero = _out_grid(seen, precision) if straight is None else _straight_on(straight, len(unit))
    made = Requantization.of_scales(unit / out_scale, bias.astype(np.int32), zero_point=out_zero, width=precision.activations)
    return IntegerProduct(
        name=seen.name, kind=seen.product, shape=seen.shape, first_scale=np.array([first.grid.scale]),
        first_zero=np.array([first.grid.zero_point]), divisor=first.divisor, weights=integers, second_scale=_EMPTY,
        bias=made.bias, multiplier=made.multiplier, shift=made.shift, out_zero=out_zero, out_scale=out_scale, relu=seen.relu,
        folded=seen.normalisation is not None, bits=(precision.weights, precision.activations),
    )  # fmt: skip


def _out_grid(seen: Observed, precision: Precision) -> tuple[Reals, int]:
    """A scale a channel and one zero point, for the host to read, with room for what calibration did not see."""
    assert seen.out_low is not None and seen.out_high is not None
    least, most = seen.out_low * HEADROOM, seen.out_high * HEADROOM
    low, high = limits(precision.activations)
    if seen.relu:
        return np.maximum(most, 1e-9) / (high - low), low
    return np.maximum(np.maximum(-least, most), 1e-9) / high, 0


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
        shift=made.shift, out_zero=0, out_scale=out_scale, relu=False, folded=False,
        bits=(precision.activations, precision.activations),
    )  # fmt: skip


def _head_grids(ranges: Reals, bits: int) -> tuple[Reals, NDArray[np.int64]]:
    """Symmetric; where nothing is negative (shares of a softmax) the whole grid is used."""
    low, high = limits(bits)
    symmetric = np.maximum(np.abs(ranges).max(axis=0), 1e-9) / high
    positive = ranges[0] >= 0
    scale = np.where(positive, np.maximum(ranges[1], 1e-9) / (high - low), symmetric)
    return scale, np.where(positive, low, 0).astype(np.int64)
