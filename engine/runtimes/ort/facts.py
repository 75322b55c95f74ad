"""Facts read from an ONNX file: which operators compute in integers, how many bits a weight has."""

from __future__ import annotations

import re
from collections import Counter
from math import prod
from pathlib import Path

import onnx
from onnx import TensorProto

from engine.domain.deployment import Formats, QuantizationMode
from engine.runtimes.proof import Census, Layer

INTEGER_OPERATORS = ("MatMulInteger", "DynamicQuantizeMatMul", "ConvInteger", "QLinearConv", "QLinearMatMul", "QuantizeLinear")
BLOCK_OPERATOR = "MatMulNBits"
TABLE_OPERATOR = "GatherBlockQuantized"
INPUTS = "inputs"
"""Metadata of a MatMulNBits node: how many of its columns are the layer's own."""
_TOLD = {
    "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul", "QuantizeLinear",
    "DequantizeLinear", "GroupQueryAttention", "MultiHeadAttention", BLOCK_OPERATOR, TABLE_OPERATOR,
}  # fmt: skip
_BITS = {TensorProto.FLOAT: 32, TensorProto.FLOAT16: 16, TensorProto.BFLOAT16: 16, TensorProto.INT8: 8, TensorProto.UINT8: 8,
         TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.DOUBLE: 64}  # fmt: skip


_WEIGHT_INPUT = {"MatMul": 1, "Gemm": 1, "Conv": 1, "MatMulInteger": 1, "DynamicQuantizeMatMul": 1, "ConvInteger": 1,
                 "QLinearConv": 3, "QLinearMatMul": 3}  # fmt: skip
"""Which input of an operator its weights are."""
_FORMATS = {TensorProto.INT8: "int8", TensorProto.UINT8: "int8", TensorProto.INT4: "int4", TensorProto.UINT4: "int4",
            TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}  # fmt: skip


def census_of(file: Path) -> Census:
    """Count weights (constant tensors of two or more axes) and quantized operators in `file`."""
    model = onnx.load(str(file), load_external_data=False)
    census = Census()
    packed: dict[str, tuple[int, int] | None] = {}
    for node in model.graph.node:
        if node.op_type == BLOCK_OPERATOR:
            attributes = {a.name: a.i for a in node.attribute}
            packed[node.input[1]] = (attributes["bits"], _inputs_of(node) * attributes["N"])
            packed |= dict.fromkeys(node.input[2:4])
        elif node.op_type == TABLE_OPERATOR:
            packed[node.input[2]] = None
    for tensor in model.graph.initializer:
        size, bits = prod(tensor.dims), _BITS.get(tensor.data_type, 0)
        if tensor.name in packed:
            known = packed[tensor.name]
            if known is None:
                census.side_bits += size * bits
            else:
                census.add(*known)
        elif len(tensor.dims) >= 2 and bits and size > 1:
            census.add(bits, size)
    census.operators = {name: n for name, n in Counter(node.op_type for node in model.graph.node).items() if name in _TOLD}
    return census


def layers_of(file: Path) -> list[Layer]:
    """Every product with constant weights, in the graph's order."""
    graph = onnx.load(str(file), load_external_data=False).graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    stored = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    found = (_layer(node, weights, stored) for node in graph.node)
    return [layer for layer in found if layer]


def _layer(node: onnx.NodeProto, weights: dict[str, TensorProto], stored: dict[str, str]) -> Layer | None:
    if node.op_type == BLOCK_OPERATOR:
        given = {a.name: a.i for a in node.attribute}
        return Layer(_plain(node.name), node.op_type, (given["N"], _inputs_of(node)), f"int{given['bits']}", given["block_size"])
    place = _WEIGHT_INPUT.get(node.op_type)
    if place is None or len(node.input) <= place:
        return None
    name = node.input[place]
    tensor = weights.get(stored.get(name, name))
    if tensor is None:
        return None
    return Layer(_plain(node.name), node.op_type, tuple(tensor.dims), _FORMATS.get(tensor.data_type, "fp32"))


def _inputs_of(node: onnx.NodeProto) -> int:
    """A MatMulNBits layer's own inputs, without columns that carry offsets."""
    told = {prop.key: int(prop.value) for prop in node.metadata_props if prop.key == INPUTS}
    return told.get(INPUTS) or next(a.i for a in node.attribute if a.name == "K")


def _plain(name: str) -> str:
    """A node's name before the quantizers added to it."""
    return re.sub(r"(_quant|_Q[48]|_token_\d+)+$", "", name)


def integer_operators(file: Path, formats: Formats) -> tuple[str, ...]:
    """Operators of which one must be in `file` when activations are quantized too."""
    if formats.mode is QuantizationMode.DYNAMIC and _computes_blocks_in_int8(file):
        return (BLOCK_OPERATOR,)
    return INTEGER_OPERATORS


def _computes_blocks_in_int8(file: Path) -> bool:
    nodes = onnx.load(str(file), load_external_data=False).graph.node
    levels = {a.i for node in nodes if node.op_type == BLOCK_OPERATOR for a in node.attribute if a.name == "accuracy_level"}
    return levels == {4}
