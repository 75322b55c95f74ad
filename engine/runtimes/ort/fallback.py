"""Layers of an ONNX graph that keep fp32 until the quantized graph is good enough.

The order comes from each layer's own noise, the number from the quality that is measured:
so a wrong guess of the order costs speed, never quality.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from engine.domain.deployment import Deployment
from engine.domain.errors import StageError
from engine.domain.experiment import Progress
from engine.domain.ports import Array, Batch, Context
from engine.runtimes.guard import Guard, answers_of, boldest, divided
from engine.runtimes.ort.activations import activations_of
from engine.runtimes.ort.executors import TensorExecutor, open_session
from engine.runtimes.ort.graph import load
from engine.runtimes.proof import Facts

Write = Callable[[Path, Path, Deployment, Context, list[str]], None]
"""Quantizes the graph of the first file into the second; the named nodes keep fp32."""

_WEIGHTED = ("MatMul", "Gemm", "Conv")
_LEVELS = 127
_LOOKED_AT = 4
"""Batches that tell a layer's noise."""


def fall_back(source: Path, target: Path, deployment: Deployment, context: Context, write: Write) -> Facts:
    """Write `target` with as few layers in fp32 as `formats.fallback` allows, and say which.

    Raises StageError when even one quantized layer costs more than that.
    """
    context, checking = divided(context)
    card, least = deployment.card, deployment.formats.fallback
    reference = answers_of(card, _opened(source, context), checking)
    guard = Guard(card, checking, reference)
    layers = noisiest(load(source), context.calibration[:_LOOKED_AT])
    found: dict[int, float] = {}

    def meets(kept: int) -> bool:
        context.report(Progress(f"Trying {kept} of {len(layers)} layers in fp32", 0.6))
        write(source, target, deployment, context, layers[:kept])
        found[kept] = guard.quality(_opened(target, context))
        return found[kept] >= least

    count = 0 if meets(0) else boldest(len(layers), meets)
    if count is None:
        raise StageError(
            f"Quality stays below {least:g} with only one layer quantized.", mend="Choose a lower fallback or another format."
        )
    write(source, target, deployment, context, layers[:count])
    return {
        "layers_kept": count, "layers_quantizable": len(layers), "layers_kept_names": ", ".join(layers[:count][:8]),
        "calibration_quality": round(found[count], 5), "calibration_quality_of_none_kept": round(found[0], 5),
    }  # fmt: skip


def noisiest(model: onnx.ModelProto, batches: Sequence[Batch]) -> list[str]:
    """Names of the layers with constant weights, those first whose inputs and weights lose most to 8 bits."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type in _WEIGHTED and n.input[1] in weights]
    noise: dict[str, float] = {n.name: _noise(_by_channel(n, numpy_helper.to_array(weights[n.input[1]]))) for n in nodes}
    for seen in activations_of(model, sorted({n.input[0] for n in nodes}), batches):
        for node in nodes:
            noise[node.name] += _noise(seen[node.input[0]].reshape(1, -1)) / len(batches)
    return sorted(noise, key=lambda name: -noise[name])


def _by_channel(node: onnx.NodeProto, weight: Array) -> Array:
    """(output channels, the rest): what shares a scale."""
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    first = node.op_type == "Conv" or transposed
    return weight.reshape(len(weight), -1) if first else weight.reshape(-1, weight.shape[-1]).T


def _noise(rows: Array) -> float:
    """Energy of the rounding error ÷ energy, each row on its own grid."""
    scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-12) / _LEVELS
    error = rows - np.round(rows / scale) * scale
    return float((error**2).sum() / max(float((rows**2).sum()), 1e-30))


def _opened(file: Path, context: Context) -> TensorExecutor:
    session = open_session(file, context.threads)
    return TensorExecutor(session, [o.name for o in session.get_outputs()])
