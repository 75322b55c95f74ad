"""Arithmetic and traffic of an operator that a runtime's profiler saw: by its type and the tensors of a call. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from engine.hardware.operators import OperatorKind

Shape = tuple[int, ...]

_KINDS: tuple[tuple[OperatorKind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        (OperatorKind.ATTENTION, r"attention"),
        (OperatorKind.CONV2D, r"conv(?!ert)"),
        (OperatorKind.MATMUL, r"matmul|gemm|fullyconnected|pack_mm|^(b|add|badd|int_|scaled_)?mm$|^q?linear(_|$)"),
        (OperatorKind.NORM, r"norm|^mvn$"),
        (OperatorKind.SOFTMAX, r"softmax"),
        (OperatorKind.ELEMENTWISE, r"^(qlinear)?(add|sub|mul|div|pow|sqrt|erf|relu|leakyrelu|tanh|sigmoid|silu|swish)_?$|gelu$|^eltwise$"),
    )
)  # fmt: skip
"""The first that is found in a type's name, in lower case and without underscores around it."""
_ADDED_FIRST = frozenset({"addmm", "baddbmm"})
"""Products whose first input is added to the result."""
_AS_MULTIPLIED = frozenset({"mm", "bmm", "matmul", "addmm", "baddbmm", "int_mm", "scaled_mm"})


@dataclass(frozen=True, slots=True)
class Tensor:
    """`item_bytes`: of one element; less than 1 where several are packed into a byte."""

    shape: Shape
    item_bytes: float

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def bytes(self) -> float:
        return self.elements * self.item_bytes


def kind_of(type: str) -> OperatorKind:
    """Of an operator as torch, onnxruntime or openvino call it (`_int_mm`, `QLinearConv`, `FullyConnected`)."""
    name = type.lower().strip("_")
    return next((kind for kind, pattern in _KINDS if pattern.search(name)), OperatorKind.OTHER)


def flops_of(type: str, inputs: Sequence[Shape], output: Shape) -> float:
    """Of one call: 2 for each multiplication with its addition, 1 for each element of other arithmetic, 0 for what only moves data.

    `inputs` are data, then weights (of an attention: queries, keys). 0 too where they are
    too few to tell. Of a causal attention both halves are counted: shapes do not tell it.
    """
    kind = kind_of(type)
    match kind:
        case OperatorKind.MATMUL:
            data = inputs[1:2] if type.lower().strip("_") in _ADDED_FIRST else inputs[:1]
            return 2.0 * prod(output) * data[0][-1] if data and data[0] else 0.0
        case OperatorKind.CONV2D:
            if len(inputs) < 2:
                return 0.0
            data_shape, kernel = inputs[:2]
            # openvino keeps groups as an axis of the kernel's own
            return 2.0 * prod(output) * prod(kernel[len(kernel) - len(data_shape) + 1 :])
        case OperatorKind.ATTENTION:
            if len(inputs) < 2 or len(inputs[0]) < 3 or len(inputs[1]) != len(inputs[0]):
                return 0.0
            queries = inputs[0]
            # with a cache among the inputs, that is what is attended to
            alike = [shape for shape in inputs[1:] if len(shape) == len(queries) and shape[-1] == inputs[1][-1]]
            return 4.0 * prod(queries) * max(shape[-2] for shape in alike)
        case OperatorKind.OTHER | OperatorKind.EMBEDDING:
            return 0.0
        case _:
            return float(prod(output))


def product_shape(type: str, inputs: Sequence[Shape]) -> Shape | None:
    """Of the result of one of torch's products, whose profiler tells inputs only; None where they are too few.

    Linear layers keep their weights with a row for each output, other products as they are multiplied.
    """
    name = type.lower().strip("_")
    operands = inputs[1:3] if name in _ADDED_FIRST else inputs[:2]
    if len(operands) < 2 or min(map(len, operands)) < 2:
        return None
    data, weights = operands
    return (*data[:-1], weights[-1] if name in _AS_MULTIPLIED else weights[-2])


def convolved_shape(
    data: Shape, kernel: Shape, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Shape:  # fmt: skip
    """Of the result of a convolution of `data` (batch, channels, positions…) by `kernel` (filters, channels, positions…)."""
    positions = (
        (size + 2 * around - apart * (taps - 1) - 1) // step + 1
        for size, taps, step, around, apart in zip(data[2:], kernel[2:], stride, padding, dilation, strict=True)
    )
    return (data[0], kernel[0], *positions)
