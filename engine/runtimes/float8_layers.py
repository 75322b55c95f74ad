"""Layers whose weights are floats of eight bits (e4m3: 4 of exponent, 3 of mantissa). Needs torch alone.

`torch._scaled_mm`, which torchao's float8 layers call too, multiplies them on GPUs that have the units: one scale for each
output feature, one for each token, found while running. torch's kernel for the CPU gives the same sums, slowly: by it a
projected run is answered and a test checks the arithmetic. Written, unmeasured on a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FLOAT8 = torch.float8_e4m3fn
GRAIN = 16
"""Both sides of a matrix must be multiples of it for the kernel."""
_SMALLEST = torch.finfo(torch.float32).tiny
"""Keeps the scale of an all-zero row from being zero."""


def quantize_float8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """One scale an output feature, its largest weight at the format's largest value: e4m3 (out, in) and fp32 (out,)."""
    scale = weight.abs().amax(1).clamp_min(_SMALLEST) / torch.finfo(FLOAT8).max
    return (weight / scale[:, None]).to(FLOAT8), scale


class Float8Linear(nn.Module):
    """e4m3 weights, activations in the same format a token at a time while running. Sums leave the kernel in bf16."""

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.shape = (weight.shape[0], weight.shape[1])
        """(out, in)"""
        self.out_features, self.in_features = self.shape
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("scale", scale[None], persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        rows, most = x.reshape(-1, self.in_features), torch.finfo(self.weight.dtype).max
        steps = rows.abs().amax(1, keepdim=True).float().clamp_min_(_SMALLEST).div_(most)
        narrow = (rows / steps).clamp_(-most, most).to(self.weight.dtype)
        y = torch._scaled_mm(narrow, self.weight.t(), scale_a=steps, scale_b=self.scale, out_dtype=torch.bfloat16)
        y = y if self.bias is None else y + self.bias
        return y.reshape(*x.shape[:-1], self.out_features).to(x.dtype)
