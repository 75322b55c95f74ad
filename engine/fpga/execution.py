"""Tier 2: a whole network in the array's integers, bit for bit, the host's operators in fp32.

The torch module runs as it is; each of its products is caught, its operands are put on
their integer grids, engine.fpga.gemm multiplies and requantizes them as the RTL does,
and what comes out is handed on as the real numbers those integers stand for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.domain.errors import StageError
from engine.domain.ports import Array, Batch, Generation, Outputs
from engine.fpga.calibration import by_head, shape_of
from engine.fpga.fixed_point import Integers, integer_type, limits
from engine.fpga.gemm import sums_of
from engine.fpga.grids import Reals, row_scales
from engine.fpga.integer_network import IntegerProduct
from engine.fpga.interception import BATCH_NORM, Interceptor, Product
from engine.fpga.observed import ProductKind
from engine.tasks.traceable import Traceable


class IntegerExecutor:
    """Answers as the board would. The products' order is the module's own; shapes are those of calibration."""

    def __init__(self, module: Traceable, products: tuple[IntegerProduct, ...]) -> None:
        self._module = module
        self._products = products

    def infer(self, batch: Batch) -> Outputs:
        """Raises StageError when the module multiplies something else than it did in calibration."""
        inputs = [torch.from_numpy(np.ascontiguousarray(batch[name])) for name in self._module.inputs]
        self._place = 0
        self._folded: dict[int, Tensor] = {}
        with torch.inference_mode(), Interceptor(self._product, self._other):
            outputs = self._module(*inputs)
        self._folded = {}
        return {name: _array(value) for name, value in zip(self._module.outputs, outputs, strict=True)}

    def generate(self, input_ids: Array, new_tokens: int) -> Generation:
        """Raises StageError: generation is computed from its shapes, never run."""
        raise StageError("An FPGA run does not generate text here.", mend="Its quality is scored on whole sequences.")

    def close(self) -> None:
        self._products = ()

    def _product(self, product: Product) -> Tensor:
        expected = self._products[self._place] if self._place < len(self._products) else None
        if expected is None or expected.kind is not product.kind or expected.shape != shape_of(product):
            raise StageError(
                "The model multiplies something else than it did in calibration.",
                mend="Its control flow depends on its inputs; it cannot be placed on an array.", where=expected.name if expected else "",
            )  # fmt: skip
        self._place += 1
        out = torch.from_numpy(answer(expected, product))
        if expected.folded:
            self._folded[id(out)] = out
        return out

    def _other(self, func: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if func in BATCH_NORM and id(args[0]) in self._folded:
            return args[0]
        return func(*args, **options)


def answer(integer: IntegerProduct, product: Product) -> Reals:
    """One product as the array does it, in real numbers (float32, the shape that torch expects)."""
    match product.kind:
        case ProductKind.LINEAR:
            return _linear(integer, product)
        case ProductKind.CONV2D:
            return _conv2d(integer, product)
        case _:
            return _matmul(integer, product)


def _linear(integer: IntegerProduct, product: Product) -> Reals:
    rows = _array(product.first).reshape(-1, product.first.shape[-1])
    rows = rows / integer.divisor if integer.divisor.size else rows
    grid = integer.first_grid()
    scales = row_scales(rows, grid.zero_point, grid.bits) if integer.by_row else np.ones(1)
    out = integer.requantization().apply(sums_of(grid.integers(rows / scales), integer.weights))
    reals = _reals(out, integer)
    if integer.by_row:
        reals = (reals * scales + integer.host_bias).astype(np.float32)
    return reals.reshape(*product.first.shape[:-1], -1)


def _conv2d(integer: IntegerProduct, product: Product) -> Reals:
    """As im2col: one row for each output pixel. Padding is the integer of 0.0."""
    pixels = _array(product.first)
    grid = integer.first_grid().integers(pixels)
    (ph, pw), zero = product.padding, int(integer.first_zero[0])
    padded = np.pad(grid, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=zero)
    windows = functional.unfold(
        torch.from_numpy(padded.astype(np.float32)), product.second.shape[-2:], dilation=product.dilation, stride=product.stride
    )
    rows = windows.transpose(1, 2).numpy().astype(grid.dtype)
    batch, positions, depth = rows.shape
    columns = integer.weights.shape[1] // product.groups
    depth //= product.groups
    parts = []
    for group in range(product.groups):
        part, taken = slice(group * columns, (group + 1) * columns), slice(group * depth, (group + 1) * depth)
        sums = sums_of(rows[..., taken], integer.weights[:, part])
        parts.append(integer.requantization(part).apply(sums))
    out = _reals(np.concatenate(parts, axis=-1), integer)
    height = (padded.shape[2] - product.dilation[0] * (product.second.shape[2] - 1) - 1) // product.stride[0] + 1
    return np.ascontiguousarray(np.moveaxis(out.reshape(batch, height, positions // height, -1), -1, 1))


def _matmul(integer: IntegerProduct, product: Product) -> Reals:
    """Each head is a product of its own."""
    first, second = by_head(_array(product.first)), by_head(_array(product.second))
    low, high = limits(integer.bits[1])
    found = []
    for head in range(first.shape[1]):
        left = integer.first_grid(head).integers(first[:, head])
        scaled = np.rint(second[:, head] / integer.second_scale[head])
        right = np.clip(scaled, low, high).astype(integer_type(integer.bits[1]))
        sums = sums_of(left, right)
        if integer.first_zero[head]:
            # the zero point times the sum of a column: the host writes it as that column's bias
            sums = sums - np.int32(integer.first_zero[head]) * right.astype(np.int32).sum(axis=-2, keepdims=True)
        out = integer.requantization(head).apply(sums)
        found.append(out.astype(np.float32) * np.float32(integer.out_scale[head]))
    stacked = np.stack(found, axis=1)
    return stacked.reshape(*product.first.shape[:-1], product.second.shape[-1])


def _reals(out: Integers, integer: IntegerProduct) -> Reals:
    values: Reals = (out.astype(np.float32) - integer.out_zero) * integer.out_scale.astype(np.float32)
    return values


def _array(tensor: Tensor) -> Array:
    return tensor.detach().float().numpy() if tensor.is_floating_point() else tensor.detach().numpy()
