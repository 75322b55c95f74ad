"""The integer executor: what the core computes, exactly, at numpy's speed.

Contract, shared with `rtl/gemm_core.v` bit for bit: activations (M, K) and weights (K, O) of `width` bits, sums in 32
bits (wrapping), then `Requantization`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.domain.errors import InvalidInput
from engine.fpga.fixed_point import Integers, Requantization, limits

_FLOAT32_EXACT = 1 << 24
"""Integers up to here are float32 numbers, so a float32 matmul whose every partial sum stays below is exact."""
_FLOAT64_EXACT = 1 << 53


def sums_of(activations: Integers, weights: Integers) -> NDArray[np.int32]:
    """activations (…, M, K) @ weights (…, K, O) as int32, wrapping, whatever the signs.

    Done by float32 matrix products over pieces of K so short that every partial sum is exact; numpy's own integer
    matmul has no BLAS and is some hundred times slower.
    """
    depth = activations.shape[-1]
    if depth != weights.shape[-2]:
        raise InvalidInput(f"K differs: activations {activations.shape}, weights {weights.shape}.", where="gemm")
    greatest = max(_greatest(activations), 1) * max(_greatest(weights), 1)
    exact: type[np.float32] | type[np.float64] = np.float32 if greatest <= _FLOAT32_EXACT else np.float64
    piece = (_FLOAT32_EXACT if exact is np.float32 else _FLOAT64_EXACT) // greatest
    shape = np.broadcast_shapes(activations.shape[:-2], weights.shape[:-2])
    sums = np.zeros((*shape, activations.shape[-2], weights.shape[-1]), np.int32)
    for start in range(0, depth, piece):
        left: NDArray[np.floating[Any]] = activations[..., start : start + piece].astype(exact)
        right: NDArray[np.floating[Any]] = weights[..., start : start + piece, :].astype(exact)
        sums += (left @ right).astype(np.int64).astype(np.int32)
    return sums


def gemm(activations: Integers, weights: Integers, requantization: Requantization) -> Integers:
    """What the core answers: (M, O) of the requantization's width. Operands must fit that width too.

    Raises InvalidInput when shapes do not fit each other or an operand does not fit the width.
    """
    low, high = limits(requantization.width)
    for name, operand in (("activations", activations), ("weights", weights)):
        if operand.size and (operand.min() < low or operand.max() > high):
            raise InvalidInput(f"The {name} do not fit {requantization.width} bits.", where=name)
    if weights.shape[-1] != requantization.bias.shape[0]:
        raise InvalidInput("There must be one bias, multiplier and shift for each column.", where="gemm")
    return requantization.apply(sums_of(activations, weights))


def _greatest(values: Integers) -> int:
    """The greatest magnitude."""
    return max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0
