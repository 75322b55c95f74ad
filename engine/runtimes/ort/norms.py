"""Root-mean-square norms as one operator: torch exports each as seven, and onnxruntime's own fusion knows another spelling."""

from __future__ import annotations

from collections import defaultdict

import onnx
from onnx import helper, numpy_helper

_NORM = "SimplifiedLayerNormalization"
_CHAIN = ("ReduceMean", "Add", "Sqrt", "Reciprocal", "Mul", "Mul")
"""What follows x²: the mean, epsilon, the root, its reciprocal, times x, times the weights."""


def fuse_norms(graph: onnx.GraphProto) -> int:
    """How many were found and replaced, in place, by onnxruntime's SimplifiedLayerNormalization."""
    constant = {tensor.name: tensor for tensor in graph.initializer}
    readers = defaultdict[str, list[onnx.NodeProto]](list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    fused: dict[str, onnx.NodeProto] = {}
    gone: set[str] = set()
    for node in graph.node:
        chain = _chain_after(node, readers)
        if chain is None:
            continue
        epsilon = next((constant[name] for name in chain[1].input if name in constant), None)
        weights = next((name for name in chain[-1].input if name in constant), None)
        if epsilon is None or weights is None or node.input[0] not in chain[-2].input:
            continue
        if not (_is(constant.get(node.input[1]), 2) and _is(constant.get(chain[0].input[1]), -1)):
            continue
        fused[chain[-1].output[0]] = helper.make_node(
            _NORM, [node.input[0], weights], chain[-1].output, name=chain[-1].name, axis=-1,
            epsilon=float(numpy_helper.to_array(epsilon)), stash_type=onnx.TensorProto.FLOAT,
        )  # fmt: skip
        gone |= {step.output[0] for step in (node, *chain[:-1])}
    nodes = [fused.get(node.output[0], node) for node in graph.node if node.output[0] not in gone]
    del graph.node[:]
    graph.node.extend(nodes)
    return len(fused)


def join_sums(graph: onnx.GraphProto) -> int:
    """Make a residual sum and the norm that reads it one operator that gives both; how many, in place."""
    makers = {name: node for node in graph.node for name in node.output}
    constant = {tensor.name for tensor in graph.initializer}
    joined: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        if node.op_type != _NORM:
            continue
        sum_ = makers.get(node.input[0])
        # a sum with a constant is a bias of another shape; a sum that is normed twice is one operator with the first
        if sum_ is None or sum_.op_type != "Add" or constant & set(sum_.input) or sum_.output[0] in joined:
            continue
        epsilon = next(a.f for a in node.attribute if a.name == "epsilon")
        joined[sum_.output[0]] = helper.make_node(
            f"Skip{_NORM}", [*sum_.input, node.input[1]], [node.output[0], "", "", sum_.output[0]], name=node.name,
            domain="com.microsoft", epsilon=epsilon,
        )  # fmt: skip
    gone = {node.output[0] for node in joined.values()}
    nodes = [joined.get(node.output[0], node) for node in graph.node if node.output[0] not in gone]
    del graph.node[:]
    graph.node.extend(nodes)
    return len(joined)


def _is(tensor: onnx.TensorProto | None, number: int) -> bool:
    return tensor is not None and numpy_helper.to_array(tensor).ravel().tolist() == [number]


def _chain_after(node: onnx.NodeProto, readers: dict[str, list[onnx.NodeProto]]) -> list[onnx.NodeProto] | None:
    """The six nodes of `_CHAIN` after a power, if each is read by the next alone."""
    if node.op_type != "Pow":
        return None
    chain: list[onnx.NodeProto] = []
    for kind in _CHAIN:
        following = readers[(chain[-1] if chain else node).output[0]]
        if len(following) != 1 or following[0].op_type != kind:
            return None
        chain.append(following[0])
    return chain
