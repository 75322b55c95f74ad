"""onnxruntime's own quantizers, set up so that they are right on the processor at hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from engine.domain.artifact import TaskId
from engine.domain.deployment import Deployment, NumberFormat, QuantizationMode
from engine.domain.errors import StageError
from engine.domain.ports import Array, Batch, Context
from engine.host import this_host
from engine.runtimes.ort.attention import fuse_attention
from engine.runtimes.ort.blocks import in_blocks
from engine.runtimes.ort.fallback import Write, fall_back
from engine.runtimes.ort.graph import load, save
from engine.runtimes.ort.norms import fuse_norms, join_sums
from engine.runtimes.ort.smooth import smooth
from engine.runtimes.proof import Facts

INT8_BLOCK = 32
INT4_BLOCK = 32
CALIBRATION_BATCHES = 64
_COMPUTE_FLOAT = 1
_COMPUTE_INT8 = 4
_WEIGHTED = ["MatMul", "Gemm"]


def quantize(source: Path, target: Path, deployment: Deployment, context: Context) -> Facts:
    """Write the graph of `source` in the deployment's formats to `target`; facts of what the file cannot say.

    Raises StageError for formats that onnxruntime has no kernels for.
    """
    formats = deployment.formats
    if formats.weights in (NumberFormat.BF16, NumberFormat.FP16):
        raise StageError(
            f"onnxruntime has no {formats.weights} kernels for processors.",
            mend="Choose @openvino or @inductor for it, or int8 here.",
        )
    if deployment.card.task is TaskId.CAUSAL_LM:
        _blockwise(source, target, deployment)
        return {}
    if formats.weights is NumberFormat.INT4 or formats.mode is QuantizationMode.WEIGHT_ONLY:
        raise StageError(
            f"onnxruntime has no weight-only {formats.weights} here but for causal LMs.",
            mend="Choose format=int8 with mode=dynamic or mode=static.",
        )
    _prepare(source, deployment, context)
    write = _MODES[formats.mode]
    if not formats.fallback:
        write(source, target, deployment, context, [])
        return {}
    return fall_back(source, target, deployment, context, write)


def _prepare(source: Path, deployment: Deployment, context: Context) -> None:
    """Rewrite `source` as the quantizers like it: folded and fused, its outliers moved into the weights."""
    formats = deployment.formats
    if formats.mode is QuantizationMode.STATIC:
        quant_pre_process(source, source, skip_symbolic_shape=True, save_as_external_data=_is_split(source))
    if formats.smooth:
        model = load(source)
        if smooth(model, context.calibration, formats.smooth):
            save(model, source)


def _blockwise(source: Path, target: Path, deployment: Deployment) -> None:
    """Integer weights with a scale for each block (MatMulNBits).

    DYNAMIC also quantizes activations to int8 block by block while running, which keeps a
    causal LM's perplexity where one scale for a whole tensor loses it.
    """
    formats = deployment.formats
    bits = 4 if formats.weights is NumberFormat.INT4 else 8
    level = _COMPUTE_INT8 if formats.mode is QuantizationMode.DYNAMIC else _COMPUTE_FLOAT
    block = formats.group_size or (INT4_BLOCK if bits == 4 else INT8_BLOCK)
    model = load(source)
    fuse_norms(model.graph)
    join_sums(model.graph)
    fuse_attention(model.graph)
    save(in_blocks(model, bits, block, level, formats.shortlist), target)


def _dynamic(source: Path, target: Path, deployment: Deployment, context: Context, kept: list[str]) -> None:
    """Weights a scale a channel, activations a scale a call."""
    quantize_dynamic(
        source, target, nodes_to_exclude=kept, op_types_to_quantize=_WEIGHTED, per_channel=True, weight_type=QuantType.QInt8,
        reduce_range=_saturates(), use_external_data_format=_is_split(source), extra_options={"DefaultTensorType": 1},
    )  # fmt: skip


def _static(source: Path, target: Path, deployment: Deployment, context: Context, kept: list[str]) -> None:
    """Scales from calibration, written as QuantizeLinear/DequantizeLinear pairs."""
    text = deployment.card.task.takes_text
    quantize_static(
        source, target, nodes_to_exclude=kept, calibration_data_reader=_Reader(context.calibration, [s.name for s in deployment.card.inputs]),
        quant_format=QuantFormat.QDQ, op_types_to_quantize=_WEIGHTED if text else None, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, reduce_range=_saturates(),
        calibrate_method=CalibrationMethod.MinMax, use_external_data_format=_is_split(source),
    )  # fmt: skip


def _saturates() -> bool:
    """AVX2 without VNNI adds pairs of u8×s8 products in 16 bits; weights of 7 bits keep them from saturating."""
    host = this_host()
    return "avx2" in host.cpu_flags and not host.has_vnni


def _is_split(file: Path) -> bool:
    return file.with_name(f"{file.name}.data").exists()


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Sequence[Batch], names: Sequence[str]) -> None:
        self._batches = iter([{name: batch[name] for name in names} for batch in batches[:CALIBRATION_BATCHES]])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._batches, None)


_MODES: dict[QuantizationMode, Write] = {
    QuantizationMode.DYNAMIC: _dynamic,
    QuantizationMode.STATIC: _static,
}
