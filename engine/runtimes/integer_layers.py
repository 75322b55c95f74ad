"""Layers whose weights are integers, for eager and inductor. Needs torch alone.

torchao's own int8 tensors call `aten::_int_mm`, which on a CPU without VNNI falls back
to a scalar loop (measured on Zen 3: MiniLM 50 times slower than fp32), and torch's
`quantize_dynamic` gives a whole batch one activation scale (cosine 0.975 where one
scale a token gives 0.997). So these layers quantize activations a token at a time and
multiply with FBGEMM, which has kernels for AVX2 and for VNNI.

Without VNNI two products are added in 16 bits, which overflow: activations then get 7
bits instead of 8.
"""

from __future__ import annotations

import warnings
from typing import Any, Protocol

import torch
from torch import Tensor, nn

SMALLEST = 1e-12
"""Keeps the scale of an all-zero token from being zero."""
FEW_ROWS = 16
"""Up to so many rows a weight-only product reads integers; beyond, a dequantized block pays."""
ALIGNMENT = 16
"""Bytes: from four rows on the int8 kernel loads whole vectors and dies where they are not aligned, as a tensor that is
mapped from a file need not be."""
BLOCK = 4096
"""Output features that are dequantized at a time."""


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric, one scale an output feature: int8 (out, in) and fp32 (out,)."""
    scale = weight.abs().amax(1).clamp_min(SMALLEST) / 127
    return (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale


def pack_int4(values: Tensor) -> Tensor:
    """Two values of 0…15 a byte, the even column in the low half: uint8 (out, in / 2)."""
    values = values.to(torch.uint8)
    return values[:, ::2] | (values[:, 1::2] << 4)


def unpack_int4(packed: Tensor) -> Tensor:
    """The int32 values that `pack_int4` packed."""
    return torch.stack([packed & 15, packed >> 4], dim=-1).reshape(packed.shape[0], -1).int()


def activation_bits() -> int:
    """Bits of a quantized activation on this CPU."""
    return 8 if torch.cpu._is_vnni_supported() else 7


class _Product(Protocol):
    """A product that inductor calls as it is: (rows, in) to (rows, out)."""

    def __call__(self, rows: Tensor) -> Tensor: ...


_PRODUCTS: list[_Product] = []
"""Packed weights are no tensors, so a graph refers to them by their place here."""


@torch.library.custom_op("speedrail::integer_product", mutates_args=())
def integer_product(rows: Tensor, product: Tensor, out_features: int) -> Tensor:
    """`_PRODUCTS[product](rows)`, opaque to torch.compile.

    The place is a tensor, because a number would be compiled in: a graph a layer.
    """
    return _PRODUCTS[int(product)](rows)


@integer_product.register_fake
def _(rows: Tensor, product: Tensor, out_features: int) -> Tensor:
    return rows.new_empty(rows.shape[0], out_features)


class IntegerLinear(nn.Module):
    """A linear layer around an opaque product of integers."""

    def __init__(self, product: _Product, shape: tuple[int, int], bias: Tensor | None) -> None:
        super().__init__()
        self.shape = shape
        """(out, in)"""
        self.out_features = shape[0]
        self.place = torch.tensor(len(_PRODUCTS))
        self.product = product
        self.bias = bias
        _PRODUCTS.append(product)

    def multiply(self, rows: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            result: Tensor = integer_product(rows, self.place, self.out_features)
            return result
        return self.product(rows)


class DynamicInt8Linear(IntegerLinear):
    """int8 weights, activations quantized a token at a time while running."""

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        levels = 2 ** activation_bits() - 1
        super().__init__(_fbgemm(weight, scale, (levels + 1) // 2), (weight.shape[0], weight.shape[1]), bias)
        self.levels = levels
        self.row_sums = weight.sum(1, dtype=torch.int32) * scale

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).float()
        y = self._asymmetric(rows) if torch.compiler.is_compiling() else self._symmetric(rows)
        return y.reshape(*x.shape[:-1], self.out_features).to(x.dtype)

    def _symmetric(self, rows: Tensor) -> Tensor:
        """Fewest passes over memory, which is what eager pays for."""
        scale = rows.abs().amax(1, keepdim=True).mul_(2 / (self.levels - 1)).clamp_min_(SMALLEST)
        y = self.multiply(rows / scale)
        return y.mul_(scale) if self.bias is None else torch.addcmul(self.bias, y, scale)

    def _asymmetric(self, rows: Tensor) -> Tensor:
        """All levels between a token's least and largest value; inductor fuses the passes."""
        low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
        scale = ((high - low) / self.levels).clamp_min(SMALLEST)
        middle = low + scale * ((self.levels + 1) // 2)
        y: Tensor = self.multiply((rows - middle) / scale) * scale + middle * self.row_sums
        return y if self.bias is None else y + self.bias


class WeightInt8Linear(IntegerLinear):
    """int8 weights, arithmetic in floating point."""

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        ones = torch.ones(weight.shape[0], dtype=torch.bfloat16)
        if weight.data_ptr() % ALIGNMENT:
            weight = weight.clone()

        def product(rows: Tensor) -> Tensor:
            if len(rows) <= FEW_ROWS and rows.shape[1] % 16 == 0:  # the kernel reads past the end of odd rows
                result: Tensor = torch.ops.aten._weight_int8pack_mm(rows.bfloat16(), weight, ones)
                return result.float() * scale
            blocks = torch.split(weight, BLOCK)
            return torch.cat([rows @ block.float().t() for block in blocks], dim=1).mul_(scale)

        super().__init__(product, (weight.shape[0], weight.shape[1]), bias)

    def forward(self, x: Tensor) -> Tensor:
        return _add_bias(self.multiply(x.reshape(-1, x.shape[-1]).float()), self.bias, x)


class WeightInt4Linear(IntegerLinear):
    """int4 weights of 0…15, one bf16 scale and zero a group of inputs: (q − 8)·scale + zero."""

    def __init__(self, weight: Tensor, scale: Tensor, zero: Tensor, bias: Tensor | None) -> None:
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(unpack_int4(weight), 1)
        group_size = 2 * weight.shape[1] // scale.shape[1]
        scale_and_zero = torch.stack([scale, zero], dim=-1).transpose(0, 1).contiguous()

        def product(rows: Tensor) -> Tensor:
            narrow = rows.bfloat16()
            result: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(narrow, packed, group_size, scale_and_zero)
            return result.float()

        super().__init__(product, (weight.shape[0], 2 * weight.shape[1]), bias)

    def forward(self, x: Tensor) -> Tensor:
        return _add_bias(self.multiply(x.reshape(-1, x.shape[-1]).float()), self.bias, x)


class EightBitEmbedding(nn.Module):
    """A table of rows of int8 or of floats of eight bits, each with its scale."""

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = weight.shape
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("scale", scale[:, None], persistent=False)

    weight: Tensor
    scale: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        # as bytes, because not every device looks up floats of eight bits
        rows = nn.functional.embedding(ids, self.weight.view(torch.int8)).view(self.weight.dtype)
        return rows.to(self.scale.dtype) * nn.functional.embedding(ids, self.scale)


def _add_bias(y: Tensor, bias: Tensor | None, like: Tensor) -> Tensor:
    return (y if bias is None else y + bias).reshape(*like.shape[:-1], y.shape[-1])


def _fbgemm(weight: Tensor, scale: Tensor, zero_point: int) -> _Product:
    """Rows in units of their activation scale, times int8 weights."""
    torch.backends.quantized.engine = "fbgemm"
    with warnings.catch_warnings():
        # the storage type of quantized tensors is deprecated; FBGEMM's packing takes nothing else
        warnings.simplefilter("ignore", UserWarning)
        zeros = torch.zeros(len(scale), dtype=torch.long)
        tensor = torch._make_per_channel_quantized_tensor(weight, scale.double(), zeros, 0)
        packed: Any = torch.ops.quantized.linear_prepack(tensor, None)
    kernel = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default

    def product(rows: Tensor) -> Tensor:
        result: Tensor = kernel(rows, 1.0, zero_point, packed)
        return result

    return product
