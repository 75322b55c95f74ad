"""Number formats of eager and inductor: quantize a model's layers, write them, open them.

A lowered directory holds one `model.safetensors`. A quantized layer at `path` has there

    path.qweight   int8 or e4m3 (out, in), or uint8 (out, in / 2) with two int4 values a byte
    path.scale     fp32 (out,); int4: bf16 (out, groups)
    path.zero      int4 only: bf16 (out, groups)
    path.bias      fp32 (out,), where the layer has one

in place of `path.weight`; everything else is as in a variant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from engine.domain.deployment import Formats, NumberFormat, QuantizationMode
from engine.runtimes.float8_layers import FLOAT8, GRAIN, Float8Linear, quantize_float8
from engine.runtimes.integer_layers import (
    DynamicInt8Linear,
    EightBitEmbedding,
    WeightInt4Linear,
    WeightInt8Linear,
    pack_int4,
    quantize_int8,
)

QWEIGHT = ".qweight"
LARGE_TABLE = 1024
"""Embeddings of at least so many rows are worth fewer bits."""
GROUP_SIZES = (64, 32, 128)
"""That the int4 kernel knows, as tried when the user names none."""
LINEAR = (nn.Linear, Conv1D)


def quantized_tensors(model: nn.Module, formats: Formats) -> dict[str, Tensor]:
    """What takes the place of the weights that can be `formats`, by tensor name.

    Weights that are shared (a causal LM's embedding and head) appear once, under the
    first layer's name, and in eight bits always. A layer whose shape no kernel takes is left out.
    """
    tensors: dict[str, Tensor] = {}
    for paths in _owners(model).values():
        modules: list[Any] = [model.get_submodule(path) for path in paths]
        if not any(_wanted(module) for module in modules):
            continue
        weight = modules[0].weight.detach().float()
        weight = weight.t().contiguous() if isinstance(modules[0], Conv1D) else weight
        multiplied = any(type(module) in LINEAR for module in modules)
        if formats.weights is NumberFormat.FP8:
            parts = _float8(weight, multiplied)
        elif formats.weights is NumberFormat.INT4 and len(modules) == 1 and multiplied:
            parts = _int4(weight, formats.group_size)
        else:
            parts = _int8(weight)
        tensors |= {f"{paths[0]}.{name}": part for name, part in parts.items()}
    return tensors


def install_quantized(
    model: nn.Module, tensors: dict[str, Tensor], formats: Formats, make: Callable[..., nn.Module] | None = None
) -> bool:
    """Put quantized layers where `tensors` has them and take their parts out of it; whether there were any.

    Layers that shared a weight share what took its place. make: makes a layer for another device than the CPU.
    """
    owners = {paths[0]: paths for paths in _owners(model).values()}
    firsts = [name.removesuffix(QWEIGHT) for name in tensors if name.endswith(QWEIGHT)]
    for first in firsts:
        parts = {key: tensors.pop(f"{first}.{key}", None) for key in ("qweight", "scale", "zero")}
        for path in owners[first]:
            parent, _, leaf = path.rpartition(".")
            layer = (make or _layer)(model.get_submodule(path), tensors.pop(f"{path}.bias", None), formats, **parts)
            setattr(model.get_submodule(parent), leaf, layer)
    return bool(firsts)


def _owners(model: nn.Module) -> dict[int, list[str]]:
    """Paths of the modules that hold a weight, by the weight's identity."""
    owners: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        if isinstance(getattr(module, "weight", None), nn.Parameter):
            owners.setdefault(id(module.weight), []).append(path)
    return owners


def _wanted(module: nn.Module) -> bool:
    # exact types: subclasses' weights are read by others (multi-head attention reads its projection's)
    return type(module) in LINEAR or (type(module) is nn.Embedding and module.num_embeddings >= LARGE_TABLE)


def _int8(weight: Tensor) -> dict[str, Tensor]:
    qweight, scale = quantize_int8(weight)
    return {"qweight": qweight, "scale": scale}


def _float8(weight: Tensor, multiplied: bool) -> dict[str, Tensor]:
    """Empty when no kernel multiplies the shape."""
    if multiplied and any(side % GRAIN for side in weight.shape):
        return {}
    qweight, scale = quantize_float8(weight)
    return {"qweight": qweight, "scale": scale}


def _int4(weight: Tensor, group_size: int) -> dict[str, Tensor]:
    """Half-quadratic quantization (HQQ), which needs no data; empty when no kernel takes the shape."""
    sizes = (group_size,) if group_size else GROUP_SIZES
    fitting = [s for s in sizes if weight.shape[1] % s == 0]
    if not fitting or weight.shape[0] % 16:
        return {}
    # a third of the time in which a child opens a model, and only this needs it
    from torchao.quantization.quant_primitives import _choose_qparams_and_quantize_affine_hqq

    values, scale, zero, _ = _choose_qparams_and_quantize_affine_hqq(
        weight, nbits=4, group_size=fitting[0], axis=1, compute_dtype=torch.float32, device="cpu"
    )
    groups = (weight.shape[0], -1)
    return {
        "qweight": pack_int4(values), "scale": scale.reshape(groups).bfloat16(), "zero": zero.reshape(groups).bfloat16(),
    }  # fmt: skip


def _layer(
    module: nn.Module, bias: Tensor | None, formats: Formats, *, qweight: Any, scale: Any, zero: Tensor | None
) -> nn.Module:
    if isinstance(module, nn.Embedding):
        return EightBitEmbedding(qweight, scale)
    if qweight.dtype is FLOAT8:
        return Float8Linear(qweight, scale, bias)
    if zero is not None:
        return WeightInt4Linear(qweight, scale, zero, bias)
    if formats.mode is QuantizationMode.DYNAMIC:
        return DynamicInt8Linear(qweight, scale, bias)
    return WeightInt8Linear(qweight, scale, bias)
