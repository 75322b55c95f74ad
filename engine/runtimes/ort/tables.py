"""Tables of which single rows are looked up, in blocks of 8 bits (GatherBlockQuantized).

Of an embedding one call reads a row a token, but the file and the memory hold all of it: left
in fp32 it is half of a small causal LM's 4-bit file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engine.domain.ports import Array
from engine.runtimes.ort.facts import TABLE_OPERATOR

TOKENS = "input_ids"
_BITS = 8
_MIDDLE = 128
"""Code of zero."""

Blocks = tuple[str, str]
"""Names of a table's codes (rows, columns) and scales (rows, blocks)."""


def tables_in_blocks(graph: onnx.GraphProto, block: int, stored: Mapping[str, Blocks]) -> int:
    """Make tables (tokens, columns) that tokens alone are looked up in blocks of 8 bits, in place; how many.

    stored: tables whose blocks are there already, because a product has the same weights.
    """
    readers = defaultdict[str, list[onnx.NodeProto]](list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    tables = [t for t in graph.initializer if len(t.dims) == 2 and readers[t.name] and all(map(_looks_up_tokens, readers[t.name]))]
    for table in tables:
        blocks = stored.get(table.name) or store(graph, table.name, numpy_helper.to_array(table), block)
        for node in readers[table.name]:
            node.CopyFrom(lookup(blocks, node.input[1], node.output[0], block))
        graph.initializer.remove(table)
    return len(tables)


def store(graph: onnx.GraphProto, name: str, values: Array, block: int) -> Blocks:
    """Add blocks of `values` (rows, columns) to `graph`."""
    blocks = _names(name)
    graph.initializer.extend(numpy_helper.from_array(array, each) for array, each in zip(eight_bits(values, block), blocks, strict=True))
    return blocks


def views(graph: onnx.GraphProto, product: onnx.NodeProto, rows: int, columns: int, block: int) -> Blocks:
    """The blocks of a MatMulNBits of 8 bits as those of a table; `columns` fill whole blocks."""
    blocks = _names(product.output[0])
    for name, given, shape in zip(blocks, product.input[1:3], ((rows, columns), (rows, columns // block)), strict=True):
        graph.initializer.append(numpy_helper.from_array(np.array(shape), f"{name}_shape"))
        graph.node.insert(0, helper.make_node("Reshape", [given, f"{name}_shape"], [name], name=name))
    return blocks


def lookup(blocks: Blocks, rows: str, found: str, block: int) -> onnx.NodeProto:
    """A node that gives the dequantized `rows` (any shape) as `found` (that shape, columns)."""
    return helper.make_node(
        TABLE_OPERATOR, [blocks[0], rows, blocks[1]], [found], name=f"{found}_lookup", domain="com.microsoft",
        bits=_BITS, block_size=block, gather_axis=0, quantize_axis=1,
    )  # fmt: skip


def eight_bits(values: Array, block: int) -> tuple[Array, Array]:
    """Codes (rows, columns) and scales (rows, blocks) of values (rows, columns): a value is scale · (code − 128), to half a scale."""
    rows, columns = values.shape
    filled = np.pad(values, ((0, 0), (0, -columns % block))).reshape(rows, -1, block)
    scales = np.maximum(np.abs(filled).max(axis=-1) / (_MIDDLE - 1), np.finfo(np.float32).tiny)
    codes = np.rint(filled / scales[..., None]) + _MIDDLE
    return codes.reshape(rows, -1)[:, :columns].astype(np.uint8), scales


def _looks_up_tokens(node: onnx.NodeProto) -> bool:
    return node.op_type == "Gather" and node.input[1] == TOKENS and not any(a.name == "axis" and a.i for a in node.attribute)


def _names(name: str) -> Blocks:
    return f"{name}_codes", f"{name}_scales"
