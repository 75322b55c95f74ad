"""A network's operators as they are placed on the array: what a product takes in is no operator of its own."""

from __future__ import annotations

from dataclasses import replace

from engine.hardware.operators import Network, Operator, OperatorKind, Operators

_CLAMPS = frozenset({"relu", "relu_", "hardtanh", "hardtanh_"})
"""Which the output stage does while it saturates (`hardtanh` is ReLU6 here)."""


def on_array(network: Network) -> Network:
    """A batch normalisation behind a product is multiplied into its weights, a ReLU behind that is the output stage's."""
    return replace(network, forward=_folded(network.forward), decode=_folded(network.decode))


def _folded(operators: Operators) -> Operators:
    kept: list[Operator] = []
    for operator in operators:
        if not (kept and _taken_in(operator, kept[-1])):
            kept.append(operator)
    return tuple(kept)


def _taken_in(operator: Operator, before: Operator) -> bool:
    same = operator.output_elements == before.output_elements and operator.count == before.count
    if before.kind not in (OperatorKind.MATMUL, OperatorKind.CONV2D) or not same:
        return False
    normalises = operator.kind is OperatorKind.NORM and "batch_norm" in operator.function
    return normalises or operator.function in _CLAMPS


def moves_nothing(operator: Operator) -> bool:
    """A change of layout, which the loader's addresses do, or an empty operator."""
    same = operator.input_elements == operator.output_elements
    return (operator.kind is OperatorKind.OTHER and same) or operator.output_elements == 0
