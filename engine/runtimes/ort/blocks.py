"""Weights of a causal LM as blocks of integers with a scale each (MatMulNBits).

onnxruntime's quantizer gives a block of 4-bit weights a zero point of 4 bits as well, which puts
the block's offset up to half a step off. Weights that come from a format with a free minimum
(GGUF's Q4_1) do not survive that: SmolLM2's perplexity rises by 18 %. So what the zero point
leaves of each offset is kept, to be multiplied with the sum of the block's inputs; the means of
the blocks are appended to the inputs and the offsets, times the block's size, to the weights, as
further columns of one product.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantFormat
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from engine.domain.ports import Array
from engine.runtimes.ort.facts import INPUTS
from engine.runtimes.ort.shortlist import COARSE_BITS, COARSE_BLOCK, two_steps
from engine.runtimes.ort.tables import Blocks, tables_in_blocks, views

HEAD_BITS = 8
"""Of the product that gives the logits: it is the most sensitive, and 4-bit files keep it in 8 bits too."""
_LEVELS = 15

# importing matmul_nbits_quantizer sets the root logger to INFO, and then it narrates every node
logging.getLogger().setLevel(logging.WARNING)
logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.WARNING)


def in_blocks(model: onnx.ModelProto, bits: int, block: int, accuracy_level: int, shortlist: int = 0) -> onnx.ModelProto:
    """`model` with its constant products as MatMulNBits of 8 or 4 bits, its head and tables of tokens of 8. Changes `model`.

    shortlist: of the logits so many largest come from 8 bits, the others from 4; 0: all from 8.
    """
    tied = _untie(model.graph)
    *others, head = _products(model.graph)
    names, logits, table = [node.name for node in others], head.output[0], tied.get(head.input[1], "")
    inputs, tokens = next(tensor.dims for tensor in model.graph.initializer if tensor.name == head.input[1])
    stored: dict[str, Blocks] = {}
    if shortlist:
        stored[table] = two_steps(model.graph, head, shortlist, block)
        model = _by_library(model, COARSE_BITS, COARSE_BLOCK, accuracy_level, names)
    else:
        model = _by_library(model, HEAD_BITS, block, accuracy_level, names)
        if table and inputs % block == 0:
            product = next(node for node in model.graph.node if node.output[0] == logits)
            stored[table] = views(model.graph, product, tokens, inputs, block)
    if bits != HEAD_BITS:
        _with_offsets(model.graph, block, accuracy_level)
    model = _by_library(model, bits, block, accuracy_level, [])
    tables_in_blocks(model.graph, block, stored)
    return model


def _by_library(model: onnx.ModelProto, bits: int, block: int, level: int, excluded: list[str]) -> onnx.ModelProto:
    quantizer = MatMulNBitsQuantizer(
        model, bits=bits, block_size=block, is_symmetric=bits == HEAD_BITS, accuracy_level=level, quant_format=QuantFormat.QOperator,
        nodes_to_exclude=excluded,
    )  # fmt: skip
    quantizer.process()
    made: onnx.ModelProto = quantizer.model.model
    return made


def _products(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """MatMul nodes with constant weights, in the graph's order."""
    constant = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    return (node for node in graph.node if node.op_type == "MatMul" and node.input[1] in constant)


def _untie(graph: onnx.GraphProto) -> dict[str, str]:
    """Constants that are transposed before use, as an embedding that is the head too, become constants of their own: of which each.

    The quantizer passes over what is no constant, and a head left in fp32 is half of a small model's bytes.
    """
    constant = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    turned = [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in constant]
    for node in turned:
        weights = numpy_helper.to_array(constant[node.input[0]])
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(weights.T), node.output[0]))
        graph.node.remove(node)
    return {node.output[0]: node.input[0] for node in turned}


def _with_offsets(graph: onnx.GraphProto, block: int, level: int) -> None:
    """Every product whose inputs fill whole blocks: 4-bit blocks and what their zero points leave of the offsets."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    chosen = {node.output[0] for node in _products(graph) if weights[node.input[1]].dims[0] % block == 0}
    rewritten: list[onnx.NodeProto] = []
    extended: set[str] = set()
    for node in graph.node:
        if node.output[0] not in chosen:
            rewritten.append(node)
            continue
        given, values = node.input[0], numpy_helper.to_array(weights[node.input[1]])
        if given not in extended:
            rewritten += _append_means(given, block)
            extended.add(given)
        rewritten.append(_product(graph, node, values, block, level))
    del graph.node[:]
    graph.node.extend(rewritten)
    used = {name for node in graph.node for name in node.input}
    for name in weights.keys() - used:
        graph.initializer.remove(weights[name])


def _append_means(given: str, block: int) -> list[onnx.NodeProto]:
    """Nodes that append the mean of each block of `given`: (batch, sequence, inputs) is an average pooling's shape as it stands."""
    means = f"{given}_block_means"
    return [
        helper.make_node("AveragePool", [given], [means], name=means, kernel_shape=[block], strides=[block]),
        helper.make_node("Concat", [given, means], [f"{given}_with_means"], name=f"{given}_with_means", axis=-1),
    ]


def _product(graph: onnx.GraphProto, node: onnx.NodeProto, values: Array, block: int, level: int) -> onnx.NodeProto:
    """MatMulNBits in place of `node`; values: (inputs, outputs)."""
    inputs, outputs = values.shape
    codes, scales, zeros, offsets = four_bits(values, block)
    further = np.zeros((-(-len(offsets) // block) * block, outputs), np.float32)
    further[: len(offsets)] = offsets * block
    more = four_bits(further, block)
    joined = [np.concatenate(pair, axis=1) for pair in zip((codes, scales, zeros), more[:3], strict=True)]
    stored = {"q4": _packed(joined[0]), "scales": joined[1].reshape(-1), "zeros": _packed(joined[2]).reshape(-1)}
    names = [f"{node.output[0]}_{name}" for name in stored]
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in zip(names, stored.values(), strict=True))
    made = helper.make_node(
        "MatMulNBits", [f"{node.input[0]}_with_means", *names], node.output, name=f"{node.name}_Q4", domain="com.microsoft",
        K=inputs + len(offsets), N=outputs, bits=4, block_size=block, accuracy_level=level,
    )  # fmt: skip
    made.metadata_props.add(key=INPUTS, value=str(inputs))
    return made


def four_bits(values: Array, block: int) -> tuple[Array, Array, Array, Array]:
    """Codes (outputs, blocks, block) and zero points (outputs, blocks) of 0 to 15, scales (outputs, blocks), offsets (blocks, outputs).

    values: (inputs, outputs), inputs a multiple of `block`. A weight is scale · (code − zero point) + offset, to half a scale.
    """
    grouped = values.T.reshape(values.shape[1], -1, block)
    lowest = grouped.min(axis=-1)
    steps = (grouped.max(axis=-1) - lowest) / _LEVELS
    scales = np.where(steps > 0, steps, 1).astype(np.float32)
    codes = np.rint((grouped - lowest[..., None]) / scales[..., None])
    zeros = np.clip(np.rint(-lowest / scales), 0, _LEVELS)
    return codes.astype(np.uint8), scales, zeros.astype(np.uint8), (lowest + scales * zeros).T


def _packed(codes: Array) -> Array:
    """Two in a byte along the last axis, the first in the low half."""
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros_like(codes[..., :1])], axis=-1)
    return codes[..., 0::2] | codes[..., 1::2] << 4  # type: ignore[no-any-return]

