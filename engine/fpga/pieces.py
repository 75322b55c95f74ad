"""A piece of a network's product for the core itself: the network's weights and channel parameters, drawn activations. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.fpga.cycles import GemmShape
from engine.fpga.fixed_point import Integers, Requantization, integer_type, limits
from engine.fpga.integer_network import IntegerProduct


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A GEMM, all of it as wide as the core."""

    activations: Integers
    """(M, K)."""
    weights: Integers
    """(K, O)."""
    requantization: Requantization

    @property
    def shape(self) -> GemmShape:
        rows, depth = self.activations.shape
        return GemmShape(rows, depth, self.weights.shape[1])


def piece_of(product: IntegerProduct, columns: slice, rows: int, steps: int, width: int, generator: np.random.Generator) -> Piece:
    """Some columns of the weights and the first `steps` of K at most, with so many rows."""
    weights: Integers = product.weights[:steps, columns].astype(integer_type(width))
    low, high = limits(product.bits[1])
    activations: Integers = generator.integers(low, high + 1, (rows, len(weights))).astype(integer_type(width))
    made = product.requantization(columns)
    return Piece(activations, weights, Requantization(made.bias, made.multiplier, made.shift, made.zero_point, made.relu, width))
