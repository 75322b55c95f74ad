"""What eager and inductor have in common: a directory of safetensors, written, proven and opened."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from engine.domain.artifact import ModelCard, TaskId
from engine.domain.deployment import Deployment, Formats, Lowered, NumberFormat, QuantizationMode, Variant
from engine.domain.errors import NothingChanged, StageError
from engine.domain.experiment import Progress, StageFacts
from engine.domain.ports import Context
from engine.domain.recipe import RuntimeId
from engine.runtimes.device_layers import device_layer
from engine.runtimes.float8_layers import Float8Linear
from engine.runtimes.integer_layers import EightBitEmbedding, IntegerLinear, WeightInt4Linear, activation_bits
from engine.runtimes.proof import Census, Facts, Layer, demand, layer_facts
from engine.runtimes.torch_quantization import LINEAR, QWEIGHT, install_quantized, quantized_tensors
from engine.tasks.loading import WEIGHTS, load_module, save_variant
from engine.tasks.traceable import Traceable

_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I8": 8, "F8_E4M3": 8}
_NARROW = (IntegerLinear, Float8Linear, EightBitEmbedding)
HALF = {NumberFormat.BF16: torch.bfloat16, NumberFormat.FP16: torch.float16}


def lower_torch(deployment: Deployment, context: Context, runtime: RuntimeId) -> Lowered:
    """Write the variant in its formats to `context.scratch` and read the facts back.

    Raises StageError when the model or the mode is beyond these runtimes, NothingChanged
    when the formats are not in the file.
    """
    began = time.perf_counter()
    formats = settled(deployment.formats, deployment.card.task)
    context.report(Progress("Loading the model", 0.0))
    module = load_module(deployment.variant, deployment.card)
    linear_layers = sum(type(m) in LINEAR for m in module.modules())
    context.report(Progress("Writing weights", 0.3))
    _write(module, formats, context.scratch, deployment.variant)
    del module
    context.report(Progress("Reading back", 0.8))
    settings = {"weights": str(formats.weights), "mode": str(formats.mode), "group_size": str(formats.group_size)}
    files = tuple(sorted(str(p.relative_to(context.scratch)) for p in context.scratch.rglob("*") if p.is_file()))
    lowered = Lowered(
        runtime, str(context.scratch), files, sum((context.scratch / name).stat().st_size for name in files), settings,
        StageFacts(str(runtime), 0.0, {}),
    )  # fmt: skip
    stage = _prove(lowered, deployment.card, formats, linear_layers)
    stage = replace(stage, seconds=time.perf_counter() - began)
    return Lowered(runtime, lowered.directory, files, lowered.size_bytes, settings, stage)


def open_torch(lowered: Lowered, card: ModelCard) -> Traceable:
    """The lowered model in its formats, its layers for where it is placed; still in the host's memory. Raises StageError."""
    formats = _formats_of(lowered)
    make = None if lowered.placement.is_cpu else device_layer
    module = load_module(Variant(lowered.directory), card, partial(install_quantized, formats=formats, make=make))
    if formats.weights in HALF:
        to_half(module, HALF[formats.weights])
    return module


def settled(formats: Formats, task: TaskId) -> Formats:
    """With the mode that a bare `int8` or `int4` means here. Raises StageError for one that is not to be had.

    Causal LMs keep their activations: with 7 bits a token SmolLM2's perplexity rose by a
    quarter, with integer weights alone by 1.6 %, and decoding is bound by reading weights.
    """
    bare = QuantizationMode.WEIGHT_ONLY if task is TaskId.CAUSAL_LM else QuantizationMode.DYNAMIC
    match formats.weights, formats.mode:
        case (NumberFormat.FP32 | NumberFormat.BF16 | NumberFormat.FP16, _):
            return Formats(weights=formats.weights)
        case NumberFormat.INT8, QuantizationMode.NONE:
            return Formats(weights=NumberFormat.INT8, mode=bare)
        case NumberFormat.INT8, QuantizationMode.DYNAMIC | QuantizationMode.WEIGHT_ONLY:
            return Formats(weights=NumberFormat.INT8, mode=formats.mode)
        case NumberFormat.FP8, QuantizationMode.NONE | QuantizationMode.DYNAMIC:
            return Formats(weights=NumberFormat.FP8, mode=QuantizationMode.DYNAMIC)
        case NumberFormat.INT4, QuantizationMode.NONE | QuantizationMode.WEIGHT_ONLY:
            return Formats(weights=NumberFormat.INT4, mode=QuantizationMode.WEIGHT_ONLY, group_size=formats.group_size)
    raise StageError(
        f"The torch runtimes have no {formats.mode} {formats.weights}.",
        mend="Choose mode=auto, or @onnxruntime or @openvino.",
    )


def to_half(module: nn.Module, dtype: torch.dtype) -> None:
    """Parameters and stored statistics; computed tables such as rotary frequencies stay fp32."""
    for part in module.modules():
        kept = part._non_persistent_buffers_set
        for parameter in part._parameters.values():
            if parameter is not None and parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.is_floating_point() and name not in kept:
                part._buffers[name] = buffer.to(dtype)


def _write(module: Traceable, formats: Formats, directory: Path, like: Variant) -> None:
    if formats.weights in HALF:
        to_half(module, HALF[formats.weights])
    save_variant(module, directory, {}, like)
    if formats.is_plain or formats.weights in HALF:
        return
    quantized = quantized_tensors(module.model, formats)
    replaced = {name.removesuffix(QWEIGHT) + ".weight" for name in quantized if name.endswith(QWEIGHT)}
    rest = {name: tensor for name, tensor in load_file(directory / WEIGHTS).items() if name not in replaced}
    save_file(rest | quantized, directory / WEIGHTS, metadata={"format": "pt"})


def _formats_of(lowered: Lowered) -> Formats:
    settings = lowered.settings
    return Formats(
        weights=NumberFormat(settings["weights"]), mode=QuantizationMode(settings["mode"]),
        group_size=int(settings["group_size"]),
    )  # fmt: skip


def _prove(lowered: Lowered, card: ModelCard, formats: Formats, linear_layers: int) -> StageFacts:
    """Facts from the file's header and from the module that it opens to."""
    census, group_sizes = _census(Path(lowered.directory) / WEIGHTS)
    module = open_torch(lowered, card)
    narrow = Counter(type(m).__name__ for m in module.modules() if isinstance(m, _NARROW))
    kept = [path for path, m in module.named_modules() if type(m) in LINEAR]
    census.operators |= narrow
    demand(formats, census, tuple(narrow), str(lowered.runtime))
    if formats.weights in HALF and not census.elements.get(16):
        raise NothingChanged(f"No weight is {formats.weights} after conversion to it.", mend="Choose another format.")
    facts: Facts = {"format": str(formats.weights), **census.facts()}
    if formats.weights is NumberFormat.FP8:
        facts["fp8_weights"] = facts.pop("int8_weights")
    if formats.mode is QuantizationMode.NONE:
        return StageFacts(str(lowered.runtime), 0.0, facts)
    stayed, attachments = layer_facts(_layers(module, formats, max(group_sizes, default=0)), formats)
    facts |= stayed
    facts |= {
        "mode": str(formats.mode), "linear_layers": linear_layers, "linear_layers_quantized": linear_layers - len(kept),
        "linear_layers_kept": ", ".join(kept[:8]),
    }  # fmt: skip
    if formats.mode is QuantizationMode.DYNAMIC:
        facts["activation_bits"] = _activation_bits(formats)
    if group_sizes:
        facts["group_sizes"] = ", ".join(str(size) for size in sorted(group_sizes))
    return StageFacts(str(lowered.runtime), 0.0, facts, _remarks(formats, kept), attachments)


def _activation_bits(formats: Formats) -> int:
    return 8 if formats.weights is NumberFormat.FP8 else activation_bits()


def _layers(module: nn.Module, formats: Formats, group_size: int) -> list[Layer]:
    """Linear layers and tables of eight bits as the opened module has them."""
    found, eight = [], str(NumberFormat.FP8 if formats.weights is NumberFormat.FP8 else NumberFormat.INT8)
    for path, part in module.named_modules():
        kind = type(part).__name__
        if isinstance(part, _NARROW):
            is_int4 = isinstance(part, WeightInt4Linear)
            shape = (part.num_embeddings, part.embedding_dim) if isinstance(part, EightBitEmbedding) else part.shape
            found.append(Layer(path, kind, shape, "int4" if is_int4 else eight, group_size if is_int4 else 0))
        elif type(part) in LINEAR:
            found.append(Layer(path, kind, tuple(part.weight.shape), "fp32"))
    return found


def _remarks(formats: Formats, kept: list[str]) -> tuple[str, ...]:
    found = []
    if formats.mode is QuantizationMode.DYNAMIC and _activation_bits(formats) < 8:
        found.append("This CPU has no VNNI: activations get 7 bits, because products of 8 bits would overflow.")
    if kept:
        found.append(f"{len(kept)} linear layers keep their format, because no kernel takes their shape.")
    return tuple(found)


def _census(file: Path) -> tuple[Census, set[int]]:
    """Weights by bits, and the groups' sizes, from the header of a safetensors file."""
    census, group_sizes = Census(), set()
    with safe_open(file, "pt") as stored:
        shapes = {name: stored.get_slice(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
        for name, part in shapes.items():
            shape, dtype = part.get_shape(), part.get_dtype()
            if name.endswith(QWEIGHT) and dtype == "U8":
                census.add(4, 2 * prod(shape))
                group_sizes.add(2 * shape[1] // shapes[name.removesuffix(QWEIGHT) + ".scale"].get_shape()[1])
            elif name.endswith((".scale", ".zero")) and name.rpartition(".")[0] + QWEIGHT in shapes:
                census.side_bits += _BITS[dtype] * prod(shape)
            elif dtype in _BITS:
                census.add(_BITS[dtype], prod(shape))
    return census, group_sizes
