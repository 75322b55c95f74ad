"""Quantized layers on an accelerator: the files of engine.runtimes.torch_quantization, multiplied by the device's kernels.

The kernels are those that torchao calls on CUDA (`_int_mm`, `_weight_int4pack_mm`, `_scaled_mm`); our files hold what they
take, so that nothing is quantized twice. Written, unmeasured: int8 and fp8 run on the CPU in tests, int4 and fp8 are traced
with fake `cuda` tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from engine.domain.deployment import Formats, QuantizationMode
from engine.runtimes.float8_layers import FLOAT8, Float8Linear
from engine.runtimes.integer_layers import SMALLEST, EightBitEmbedding, unpack_int4

FEWEST_ROWS = 32
"""cuBLAS multiplies integers from 17 rows on; fewer are filled up."""
_GRAIN = 8
"""Both sides of an integer product must be multiples of it."""
_TILES = (8, 4, 2)
"""Inner tiles that the int4 kernel knows, each 16 inputs wide."""


class DeviceInt8Linear(nn.Module):
    """int8 weights, activations quantized a token at a time while running."""

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("scale", scale.float(), persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.in_features)
        steps = rows.abs().amax(1, keepdim=True).float().div_(127).clamp_min_(SMALLEST)
        whole = (rows / steps).round_().clamp_(-127, 127).to(torch.int8)
        missing = max(FEWEST_ROWS - len(whole), 0)
        whole = nn.functional.pad(whole, (0, 0, 0, missing)) if missing else whole
        sums = torch._int_mm(whole, self.weight.t())[: len(rows)]
        return _finished(sums.float() * steps * self.scale, self.bias, x)


class DeviceWeightInt8Linear(DeviceInt8Linear):
    """int8 weights, arithmetic as the activations are; inductor widens them on the way in."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.in_features)
        return _finished(nn.functional.linear(rows, self.weight.to(x.dtype)) * self.scale.to(x.dtype), self.bias, x)


class DeviceInt4Linear(nn.Module):
    """int4 weights of 0…15 with a bf16 scale and zero for each group of inputs: (q − 8)·scale + zero."""

    def __init__(self, weight: Tensor, scale: Tensor, zero: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape[0], 2 * weight.shape[1]
        self.group_size = self.in_features // scale.shape[1]
        values = unpack_int4(weight)
        # the device's packing wants the even column in the high half
        self.register_buffer("weight", (values[:, ::2] << 4 | values[:, 1::2]).to(torch.uint8), persistent=False)
        self.register_buffer("grid", torch.stack([scale, zero], dim=-1).transpose(0, 1).contiguous(), persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self._packed: Tensor | None = None

    weight: Tensor
    grid: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        if self._packed is None:
            tiles = next(t for t in _TILES if self.in_features % (16 * t) == 0)
            self._packed = torch.ops.aten._convert_weight_to_int4pack(self.weight, tiles)
        rows = x.reshape(-1, self.in_features).bfloat16()
        return _finished(torch.ops.aten._weight_int4pack_mm(rows, self._packed, self.group_size, self.grid), self.bias, x)


def as_fnuz(weight: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The same e4m3 numbers for AMD's CDNA 3, which reads these bits as half the value, and those of minus zero as no number."""
    bits = weight.view(torch.int8)
    return bits.masked_fill(bits == -128, 0).view(torch.float8_e4m3fnuz), scale * 2


def _is_cdna3() -> bool:
    return torch.version.hip is not None and "gfx94" in torch.cuda.get_device_properties().gcnArchName


def skip_zeros(module: nn.Module) -> int:
    """Hand the linear layers in which two of every four weights are zero to the sparse kernels; how many were taken.

    The kernels want 16 bits and sides that are multiples of 32 and 64; what does not fit stays dense.
    """
    taken = 0
    for part in module.modules():
        if type(part) is nn.Linear and part.weight.element_size() == 2 and is_two_of_four(part.weight):
            try:
                part.weight = nn.Parameter(torch.sparse.to_sparse_semi_structured(part.weight.detach()), requires_grad=False)
            except (RuntimeError, ValueError):
                continue
            taken += 1
    return taken


def is_two_of_four(weight: Tensor) -> bool:
    """Whether of every four neighbouring inputs at most two are not zero."""
    return weight.shape[1] % 4 == 0 and bool((weight.reshape(-1, 4).count_nonzero(1) <= 2).all())


def _finished(y: Tensor, bias: Tensor | None, like: Tensor) -> Tensor:
    y = y if bias is None else y + bias
    return y.reshape(*like.shape[:-1], y.shape[-1]).to(like.dtype)


def device_layer(module: nn.Module, bias: Tensor | None, formats: Formats, *, qweight: Any, scale: Any, zero: Tensor | None) -> nn.Module:
    """What takes a layer's place on an accelerator (see engine.runtimes.torch_quantization.install_quantized)."""
    if isinstance(module, nn.Embedding):
        return EightBitEmbedding(qweight, scale)
    if qweight.dtype is FLOAT8:
        weight, scale = as_fnuz(qweight, scale) if _is_cdna3() else (qweight, scale)
        return Float8Linear(weight, scale, bias)
    if zero is not None:
        return DeviceInt4Linear(qweight, scale, zero, bias)
    fits = all(size % _GRAIN == 0 for size in qweight.shape)
    return (DeviceInt8Linear if formats.mode is QuantizationMode.DYNAMIC and fits else DeviceWeightInt8Linear)(qweight, scale, bias)
