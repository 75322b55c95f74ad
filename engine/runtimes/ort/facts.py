"""Facts read from an ONNX file: which operators compute in integers, how many bits a weight has."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path

import onnx
from onnx import TensorProto

from engine.domain.deployment import Formats, QuantizationMode
from engine.runtimes.proof import Census

INTEGER_OPERATORS = ("MatMulInteger", "DynamicQuantizeMatMul", "ConvInteger", "QLinearConv", "QLinearMatMul", "QuantizeLinear")
BLOCK_OPERATOR = "MatMulNBits"
_TOLD = {
    "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul", "QuantizeLinear",
    "DequantizeLinear", "GroupQueryAttention", "MultiHeadAttention", BLOCK_OPERATOR,
}  # fmt: skip
_BITS = {TensorProto.FLOAT: 32, TensorProto.FLOAT16: 16, TensorProto.BFLOAT16: 16, TensorProto.INT8: 8, TensorProto.UINT8: 8,
         TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.DOUBLE: 64}  # fmt: skip


def census_of(file: Path) -> Census:
    """Count weights (constant tensors of two or more axes) and quantized operators in `file`."""
    model = onnx.load(str(file), load_external_data=False)
    census = Census()
    packed: dict[str, tuple[int, int] | None] = {}
    for node in model.graph.node:
        if node.op_type == BLOCK_OPERATOR:
            attributes = {a.name: a.i for a in node.attribute}
            packed[node.input[1]] = (attributes["bits"], attributes["K"] * attributes["N"])
            packed |= dict.fromkeys(node.input[2:4])
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


def integer_operators(file: Path, formats: Formats) -> tuple[str, ...]:
    """Operators of which one must be in `file` when activations are quantized too."""
    if formats.mode is QuantizationMode.DYNAMIC and _computes_blocks_in_int8(file):
        return (BLOCK_OPERATOR,)
    return INTEGER_OPERATORS


def _computes_blocks_in_int8(file: Path) -> bool:
    nodes = onnx.load(str(file), load_external_data=False).graph.node
    levels = {a.i for node in nodes if node.op_type == BLOCK_OPERATOR for a in node.attribute if a.name == "accuracy_level"}
    return levels == {4}
