"""Finds the products in a torch module's forward pass: functions are caught, modules need not be known.

Every linear layer, convolution and matrix product of a pass has its place in the order
of calls; shapes are fixed, so that a place means the same product in every pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from engine.fpga.observed import ProductKind

LEAST_DEPTH = 4
"""Products of a lesser depth are outer products (rotary angles, say): exact arithmetic of the host's."""


@dataclass(frozen=True, slots=True)
class Product:
    """One call. `second` is a weight as (O, K) for linear, (O, K/groups, height, width) for a convolution, else an
    activation as (…, K, O)."""

    kind: ProductKind
    first: Tensor
    second: Tensor
    bias: Tensor | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


Handler = Callable[[Product], Tensor]

RELU = frozenset({functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})
BATCH_NORM = frozenset({functional.batch_norm, torch.batch_norm})
_MATMUL = frozenset({torch.matmul, torch.bmm, Tensor.matmul, Tensor.bmm, Tensor.__matmul__})
_ADDMM = frozenset({torch.addmm, Tensor.addmm})


class Interceptor(TorchFunctionMode):
    """Hands every product to `product`; other functions to `other`, which calls them or answers in their stead."""

    def __init__(self, product: Handler, other: Callable[..., Any]) -> None:
        super().__init__()
        self._product = product
        self._other = other

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        options: dict[str, Any] = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            return self._attention(*args, **options)
        found = product_of(func, args, options)
        if found is None:
            return self._other(func, args, options)
        return self._product(found)

    def _attention(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        """softmax(Q Kᵀ · scale + mask) V, the two products the array's and the softmax the host's."""
        if enable_gqa:
            repeats = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
        scores = self._product(Product(ProductKind.MATMUL, query, key.transpose(-2, -1)))
        scores = scores * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            ones = torch.ones(scores.shape[-2:], dtype=torch.bool)
            scores = scores.masked_fill(~ones.tril(), float("-inf"))
        if attn_mask is not None:
            masked = attn_mask.dtype is torch.bool
            scores = scores.masked_fill(~attn_mask, float("-inf")) if masked else scores + attn_mask
        shares = self._other(functional.softmax, (scores,), {"dim": -1})
        # a row that is masked as a whole has no shares
        return self._product(Product(ProductKind.MATMUL, torch.nan_to_num(shares), value))


def product_of(func: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> Product | None:
    """The product that a call is, or None."""
    if func is functional.linear:
        return _linear(*args, **options)
    if func is functional.conv2d:
        return _conv2d(*args, **options)
    if func in _ADDMM and not options and isinstance(args[2], nn.Parameter):
        return _linear(args[1], args[2].t(), args[0])
    if func in _MATMUL and not options:
        first, second = args
        if not (first.is_floating_point() and second.is_floating_point()):
            return None
        if isinstance(second, nn.Parameter) and second.dim() == 2:
            return _linear(first, second.t())
        if min(first.dim(), second.dim()) < 2 or first.shape[-1] < LEAST_DEPTH:
            return None
        return Product(ProductKind.MATMUL, first, second)
    return None


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Product:
    return Product(ProductKind.LINEAR, input, weight, bias)


def _conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Product | None:  # fmt: skip
    if isinstance(padding, str) or input.dim() != 4:
        return None
    pair = [value if isinstance(value, (tuple, list)) else (value, value) for value in (stride, padding, dilation)]
    (sh, sw), (ph, pw), (dh, dw) = pair
    return Product(ProductKind.CONV2D, input, weight, bias, (sh, sw), (ph, pw), (dh, dw), groups)


@contextmanager
def module_paths(module: nn.Module) -> Iterator[list[str]]:
    """A list whose last entry is the path of the module that is running."""
    running: list[str] = [""]
    handles = []
    for path, part in module.named_modules():

        def enter(_module: nn.Module, _inputs: Any, path: str = path) -> None:
            running.append(path)

        def leave(_module: nn.Module, _inputs: Any, _outputs: Any) -> None:
            running.pop()

        handles += [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()


def plain(product: Product) -> Tensor:
    """The product in floating point."""
    match product.kind:
        case ProductKind.LINEAR:
            return functional.linear(product.first, product.second, product.bias)
        case ProductKind.CONV2D:
            return functional.conv2d(
                product.first, product.second, product.bias, product.stride, product.padding, product.dilation,
                product.groups,
            )  # fmt: skip
        case _:
            return product.first @ product.second
