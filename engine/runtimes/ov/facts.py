"""Facts read from an openvino file and from the graph that its CPU plugin really executes."""

from __future__ import annotations

from collections import Counter
from math import prod

import openvino as ov

from engine.runtimes.proof import Census, Layer

INTEGER_OPERATORS = ("FakeQuantize", "executed_int8")
_BITS = {"f32": 32, "f16": 16, "bf16": 16, "i8": 8, "u8": 8, "i4": 4, "u4": 4, "f64": 64}
_HEAVY = frozenset({"FullyConnected", "MatMul", "Convolution", "GroupConvolution", "Deconvolution"})
_PRODUCTS = frozenset({"MatMul", "Convolution", "GroupConvolution"})
_UNPACKING = frozenset({"Convert", "Subtract", "Multiply", "Reshape", "Transpose", "FakeQuantize"})
_STORED = {"i8": "int8", "u8": "int8", "i4": "int4", "u4": "int4", "f32": "fp32", "f16": "fp16"}
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


def layers_of(model: ov.Model) -> list[Layer]:
    """Every product with constant weights, in the graph's order."""
    found = []
    for node in model.get_ordered_ops():
        if node.get_type_name() in _PRODUCTS:
            constant = _weights_behind(node.input_value(1).get_node())
            if constant is not None:
                found.append(_layer(node, constant))
    return found


def _weights_behind(node: ov.Node) -> ov.Node | None:
    """The constant that a product's weights come from, through what unpacks it."""
    while node.get_type_name() in _UNPACKING:
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" and len(node.get_output_shape(0)) >= 2 else None


def _layer(node: ov.Node, constant: ov.Node) -> Layer:
    shape = list(constant.get_output_shape(0))
    kind = constant.get_element_type().get_type_name()
    grouped = kind in ("i4", "u4") and len(shape) == 3
    name = constant.get_friendly_name().removesuffix(".weight").removeprefix("model.")
    return Layer(
        name, node.get_type_name(), (shape[0], shape[1] * shape[2]) if grouped else tuple(shape), _STORED.get(kind, kind),
        shape[2] if grouped else 0,
    )  # fmt: skip


def executed(compiled: ov.CompiledModel) -> dict[str, int]:
    """How many heavy operators run in each precision: `executed_int8`, `executed_bf16`, `executed_fp32` …"""
    found: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if str(info["layerType"].value) in _HEAVY:
            precision = str(info["runtimePrecision"].value)
            found[f"executed_{_EXECUTED.get(precision, precision)}"] += 1
    return dict(found)
