"""SmoothQuant on an ONNX graph: activation outliers move into the weights that follow.

For each MatMul with constant weights W and input X, columns of X are divided and rows
of W multiplied by s = max|X|^α / max|W|^(1−α) (Xiao et al. 2023, eq. 4), so that one
activation scale serves all channels. MatMuls on the same X share s and one Mul.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engine.domain.deployment import SMOOTHING
from engine.domain.ports import Array, Batch
from engine.runtimes.ort.activations import activations_of

BATCHES = 32


def smooth(model: onnx.ModelProto, calibration: Sequence[Batch], alpha: float = SMOOTHING) -> int:
    """Rescale `model` in place and return how many MatMuls were smoothed. Its function is unchanged."""
    groups = _matmuls_by_input(model)
    if not groups or not calibration:
        return 0
    peaks = _channel_peaks(model, list(groups), calibration[:BATCHES])
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    muls: dict[str, onnx.NodeProto] = {}
    for activation, nodes in groups.items():
        arrays = {node.input[1]: numpy_helper.to_array(weights[node.input[1]]) for node in nodes}
        rows = np.max([np.abs(a).max(axis=1) for a in arrays.values()], axis=0)
        scale = _scales(peaks[activation], rows, alpha)
        for name, array in arrays.items():
            weights[name].CopyFrom(numpy_helper.from_array((array * scale[:, None]).astype(np.float32), name))
        inverse = numpy_helper.from_array((1 / scale).astype(np.float32), f"{activation}_smooth")
        model.graph.initializer.append(inverse)
        muls[activation] = helper.make_node("Mul", [activation, inverse.name], [f"{activation}_smoothed"], f"{activation}_Smooth")
        for node in nodes:
            node.input[0] = f"{activation}_smoothed"
    _insert(model.graph, muls)
    return sum(len(nodes) for nodes in groups.values())


def _matmuls_by_input(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """MatMuls with a 2-D float weight that nobody else uses, grouped by their activation."""
    shapes = {t.name: t.dims for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    users: dict[str, int] = defaultdict(int)
    for node in model.graph.node:
        for name in node.input:
            users[name] += 1
    groups: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        if node.op_type == "MatMul" and len(shapes.get(node.input[1], ())) == 2 and users[node.input[1]] == 1:
            groups[node.input[0]].append(node)
    return {name: nodes for name, nodes in groups.items() if name not in shapes}


def _channel_peaks(model: onnx.ModelProto, names: list[str], batches: Sequence[Batch]) -> dict[str, Array]:
    """Largest magnitude of each channel (last axis) of the named activations over the batches."""
    peaks: dict[str, Array] = {}
    for seen in activations_of(model, names, batches):
        for name, array in seen.items():
            peak = np.abs(array).reshape(-1, array.shape[-1]).max(axis=0)
            peaks[name] = np.maximum(peaks[name], peak) if name in peaks else peak
    return peaks


def _scales(activation: Array, weight: Array, alpha: float) -> Array:
    scale = np.maximum(activation, 1e-5) ** alpha / np.maximum(weight, 1e-5) ** (1 - alpha)
    return np.asarray(np.clip(scale / np.exp(np.log(scale).mean()), 1e-3, 1e3))


def _insert(graph: onnx.GraphProto, muls: dict[str, onnx.NodeProto]) -> None:
    """Put each Mul right after what it scales, so that the graph stays in topological order."""
    inputs = {value.name for value in graph.input}
    nodes = [muls[name] for name in muls if name in inputs]
    for node in graph.node:
        nodes.append(node)
        nodes += [muls[name] for name in node.output if name in muls]
    del graph.node[:]
    graph.node.extend(nodes)
