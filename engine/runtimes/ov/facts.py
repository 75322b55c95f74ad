"""Facts read from an openvino file and from the graph that its CPU plugin really executes."""

from __future__ import annotations

from collections import Counter
from math import prod

import openvino as ov

from engine.runtimes.proof import Census

INTEGER_OPERATORS = ("FakeQuantize", "executed_int8")
_BITS = {"f32": 32, "f16": 16, "bf16": 16, "i8": 8, "u8": 8, "i4": 4, "u4": 4, "f64": 64}
_HEAVY = frozenset({"FullyConnected", "MatMul", "Convolution", "GroupConvolution", "Deconvolution"})
_EXECUTED = {"i8": "int8", "u8": "int8", "f32": "fp32", "f16": "fp16"}


def census_of(model: ov.Model) -> Census:
    """Count weights (constants of two or more axes) by their bits, and FakeQuantize nodes.

    Scales that quantized weights carry have as many axes as the weights but one of
    them, at least, is 1; they count as side bits.
    """
    census = Census()
    for node in model.get_ops():
        if node.get_type_name() == "Constant":
            _count(node, census)
        elif node.get_type_name() == "FakeQuantize":
            census.operators["FakeQuantize"] = census.operators.get("FakeQuantize", 0) + 1
    return census


def _count(node: ov.Node, census: Census) -> None:
    shape, bits = list(node.get_output_shape(0)), _BITS.get(node.get_element_type().get_type_name(), 0)
    if len(shape) < 2 or not bits or prod(shape) <= max(shape):
        return
    if _is_scale(node):
        census.side_bits += prod(shape) * bits
    else:
        census.add(bits, prod(shape))


def _is_scale(node: ov.Node) -> bool:
    users = [user.get_node() for user in node.output(0).get_target_inputs()]
    return any(user.get_type_name() in ("Multiply", "Subtract", "FakeQuantize") for user in users) or any(
        user.get_type_name() == "Convert"
        and any(next_.get_node().get_type_name() == "Subtract" and next_.get_index() == 1 for next_ in user.output(0).get_target_inputs())
        for user in users
    )


def executed(compiled: ov.CompiledModel) -> dict[str, int]:
    """How many heavy operators run in each precision: `executed_int8`, `executed_bf16`, `executed_fp32` …"""
    found: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if str(info["layerType"].value) in _HEAVY:
            precision = str(info["runtimePrecision"].value)
            found[f"executed_{_EXECUTED.get(precision, precision)}"] += 1
    return dict(found)
