"""The operators of an ONNX graph under a workload, by onnx's own shape inference; what that leaves open is observed in one run.

Child processes only.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper, shape_inference

from engine.domain.artifact import ModelCard, TaskId
from engine.domain.errors import StageError
from engine.domain.workload import Workload
from engine.hardware.operators import Gemm, Network, Operator, OperatorKind, conv2d
from engine.intake.onnx_graph import load

_VIEWS = frozenset({
    "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Shape", "Constant", "ConstantOfShape", "Dropout", "Size", "Range",
})  # fmt: skip
_PRODUCTS = frozenset({"MatMul", "Gemm", "MatMulInteger", "QLinearMatMul"})
_CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "QLinearConv"})
_NORMS = frozenset({"LayerNormalization", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization"})
_MOVES = frozenset({
    "Transpose", "Concat", "Split", "Slice", "Pad", "Expand", "Tile", "MaxPool", "AveragePool", "GlobalAveragePool",
    "GlobalMaxPool", "Resize", "ScatterND", "GatherND", "TopK", "NonMaxSuppression",
})  # fmt: skip

Shape = tuple[int, ...]


def trace_onnx(file: Path, card: ModelCard, workload: Workload) -> Network:
    """Raises StageError when shapes cannot be inferred, IntakeError when it is no ONNX graph."""
    model = load(file)
    try:
        _set_inputs(model, card, workload)
        inferred = shape_inference.infer_shapes(model, data_prop=True)
    except (RuntimeError, ValueError, shape_inference.InferenceError) as error:
        raise _unknown("", str(error)) from error
    graph = inferred.graph
    weights = {i.name: tuple(i.dims) for i in graph.initializer}
    shapes = {v.name: _shape(v) for v in (*graph.value_info, *graph.input, *graph.output)}
    shapes |= weights
    constants = set(weights)
    counted = []
    for node in graph.node:
        if all(name in constants or not name for name in node.input):
            constants.update(node.output)  # of constants only: folded before the model runs
            shapes |= {a: tuple(numpy_helper.to_array(v.t).shape) for a in node.output for v in node.attribute if v.name == "value"}
        elif node.op_type not in _VIEWS:
            counted.append(node)
    unknown = {name for node in counted for name in (*node.input, *node.output) if name and shapes.get(name) is None}
    shapes |= _observed(model, file, unknown) if unknown else {}
    return Network(
        name=graph.name or "graph", batch=workload.batch_size,
        sequence=workload.sequence_length if card.task.takes_text else 1, parameters=card.parameters, forward=tuple(_operator(node, shapes, constants) for node in counted),
    )  # fmt: skip


def _observed(model: onnx.ModelProto, file: Path, names: set[str]) -> dict[str, Shape | None]:
    """Shapes of these tensors in one run over ones: sizes that the graph itself computes. Raises StageError where it does not run."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(file.parent))
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names - {o.name for o in model.graph.output}))
    stored = {i.name for i in model.graph.initializer}
    fed = {
        value.name: np.ones(_shape(value) or (), onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        for value in model.graph.input if value.name not in stored
    }  # fmt: skip
    wanted = sorted(names)
    try:
        session = onnxruntime.InferenceSession(asked.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return {name: tuple(array.shape) for name, array in zip(wanted, session.run(wanted, fed), strict=True)}
    except Exception as error:
        raise _unknown(wanted[0], str(error)) from error


def _set_inputs(model: onnx.ModelProto, card: ModelCard, workload: Workload) -> None:
    """Give every free dimension of the inputs the workload's size, and forget what was inferred before."""
    del model.graph.value_info[:]
    stored = {i.name for i in model.graph.initializer}
    for value in model.graph.input:
        if value.name in stored:
            continue
        for index, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_value <= 0:
                dim.dim_value = _size(index, card, workload)


def _size(index: int, card: ModelCard, workload: Workload) -> int:
    if index == 0:
        return workload.batch_size
    if card.task is TaskId.IMAGE_CLASSIFIER:
        return (card.num_channels or 3) if index == 1 else (workload.image_size or card.image_size or 224)
    return workload.sequence_length


def _shape(value: onnx.ValueInfoProto) -> Shape | None:
    dims = value.type.tensor_type.shape.dim
    if not value.type.tensor_type.HasField("shape") or any(d.dim_value <= 0 for d in dims):
        return None
    return tuple(int(d.dim_value) for d in dims)


def _operator(node: onnx.NodeProto, shapes: dict[str, Shape | None], constants: set[str]) -> Operator:
    name = node.name or node.output[0]
    outputs = [_known(o, shapes, name) for o in node.output if o]
    inputs = [_known(i, shapes, name) for i in node.input if i and i not in constants]
    written = sum(map(prod, outputs[:1]))
    read = sum(map(prod, inputs))
    held = sum(prod(shapes[i] or ()) for i in node.input if i in constants and shapes.get(i) is not None)
    if node.op_type in _PRODUCTS:
        return _product(node, name, shapes, outputs[0], held, read)
    if node.op_type in _CONVOLUTIONS:
        return _convolution(node, name, shapes, outputs[0])
    if node.op_type == "Gather" and node.input[0] in constants:
        return Operator(
            name=name, kind=OperatorKind.EMBEDDING, flops=0, weight_elements=written, input_elements=read, output_elements=written
        )
    kind = OperatorKind.ELEMENTWISE
    if node.op_type in _NORMS:
        kind = OperatorKind.NORM
    elif "Softmax" in node.op_type:
        kind = OperatorKind.SOFTMAX
    elif node.op_type in _MOVES or node.op_type == "Gather":
        kind = OperatorKind.OTHER
    flops = 0 if kind is OperatorKind.OTHER else max(written, read)
    return Operator(
        name=name, kind=kind, flops=flops, weight_elements=held, input_elements=read, output_elements=written
    )


def _product(
    node: onnx.NodeProto, name: str, shapes: dict[str, Shape | None], output: Shape, weights: int, read: int
) -> Operator:
    right = 3 if node.op_type == "QLinearMatMul" else 1
    left, factor = (_known(node.input[i], shapes, name) for i in (0, right))
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    k = left[0] if transposed else left[-1]
    groups = prod(output[:-2]) if len(factor) > 2 else 1
    gemm = Gemm(prod(output[:-1]) // groups, k, output[-1], groups)
    return Operator(
        name=name, kind=OperatorKind.MATMUL, flops=2 * gemm.macs, weight_elements=weights, input_elements=read,
        output_elements=prod(output), gemm=gemm,
    )  # fmt: skip


def _convolution(node: onnx.NodeProto, name: str, shapes: dict[str, Shape | None], output: Shape) -> Operator:
    image = _known(node.input[0], shapes, name)
    kernel = _known(node.input[3 if node.op_type == "QLinearConv" else 1], shapes, name)
    if len(image) != 4:
        raise StageError(f"{name} is a convolution in {len(image) - 2} dimensions, of which only 2 are counted.")
    return conv2d(
        name, image[0], image[1], kernel[0], (kernel[2], kernel[3]), (output[2], output[3]), (image[2], image[3]),
        groups=image[1] // kernel[1], bias=len(node.input) in (3, 9),
    )  # fmt: skip


def _known(name: str, shapes: dict[str, Shape | None], where: str) -> Shape:
    shape = shapes.get(name)
    if shape is None:
        raise _unknown(where)
    return shape


def _unknown(where: str, detail: str = "") -> StageError:
    return StageError(
        "The shapes inside this ONNX graph cannot be inferred.", mend="Export it with fixed input shapes.", where=where, detail=detail
    )
