"""Attention's surroundings, made few: one product for query, key and value, and no reshaping.

torch splits a projection into heads and joins the heads again before GroupQueryAttention, which
splits them itself. Single tokens are so small that each operator costs more than what it does.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
from onnx import numpy_helper

_ATTENTION = "GroupQueryAttention"


def fuse_attention(graph: onnx.GraphProto) -> int:
    """Simplify `graph` around every attention, in place; how many now take one packed product.

    Reshapes alone between a projection and an attention change nothing: both have
    (batch, sequence, heads × size), in one order.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    makers = {name: node for node in graph.node for name in node.output}
    readers = defaultdict[str, list[onnx.NodeProto]](list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    packed = 0
    for node in [n for n in graph.node if n.op_type == _ATTENTION]:
        _skip_reshapes_after(node, weights, readers)
        projections = [_projection(name, weights, makers) for name in node.input[:3]]
        if all(projections):
            for place, projection in enumerate(projections):
                node.input[place] = projection.output[0]  # type: ignore[union-attr]
            packed += _pack(graph, node, [p for p in projections if p], weights)
    _drop_unread(graph)
    return packed


def _projection(name: str, weights: dict[str, onnx.TensorProto], makers: dict[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """The product with constant weights of which `name` is a reshaping."""
    node = makers.get(name)
    while node is not None and node.op_type == "Reshape":
        node = makers.get(node.input[0])
    return node if node is not None and node.op_type == "MatMul" and node.input[1] in weights else None


def _skip_reshapes_after(
    attention: onnx.NodeProto, weights: dict[str, onnx.TensorProto], readers: dict[str, list[onnx.NodeProto]]
) -> None:
    given = attention.output[0]
    while len(found := readers[given]) == 1 and found[0].op_type == "Reshape":
        given = found[0].output[0]
    for node in readers[given]:
        if node.op_type == "MatMul" and node.input[1] in weights:
            node.input[0] = attention.output[0]


def _pack(
    graph: onnx.GraphProto, attention: onnx.NodeProto, projections: list[onnx.NodeProto], weights: dict[str, onnx.TensorProto]
) -> bool:
    """One product of query, key and value side by side, where all three read the same."""
    query = projections[0]
    if len({node.output[0] for node in projections}) < 3 or len({node.input[0] for node in projections}) > 1:
        return False
    joined = np.concatenate([numpy_helper.to_array(weights[node.input[1]]) for node in projections], axis=1)
    name = f"{query.output[0]}_packed"
    graph.initializer.append(numpy_helper.from_array(joined, f"{name}_weights"))
    query.input[1], query.output[0] = f"{name}_weights", name
    attention.input[0], attention.input[1], attention.input[2] = name, "", ""
    return True


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Nodes and weights that nobody reads any more."""
    read = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if any(name in read for name in node.output):
            kept.append(node)
            read |= set(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for tensor in [t for t in graph.initializer if t.name not in read]:
        graph.initializer.remove(tensor)
