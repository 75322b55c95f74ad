"""Logits in two steps: of all tokens from 4 bits, of the likeliest again from 8.

A vocabulary's product is a fifth of a small model's token and needs 8 bits only for the few
tokens that can be chosen. In the others rounding stays; the perplexity tells what that costs.
Jean et al. 2015 (https://arxiv.org/abs/1412.2007, section 3.3) choose their shortlist from the
source text before the product; here it is the product's own coarse answer.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engine.runtimes.ort.tables import Blocks, lookup, store

COARSE_BITS, COARSE_BLOCK = 4, 64


def two_steps(graph: onnx.GraphProto, head: onnx.NodeProto, count: int, block: int) -> Blocks:
    """Put a coarse product, left to a quantizer, and what refines its `count` largest in place of `head`, a MatMul.

    Returns the 8-bit blocks (tokens, inputs) of the head's weights. A smaller vocabulary is refined whole.
    """
    weights = next(tensor for tensor in graph.initializer if tensor.name == head.input[1])
    tokens = weights.dims[1]
    hidden, logits = head.input[0], head.output[0]
    blocks = store(graph, logits, np.ascontiguousarray(numpy_helper.to_array(weights).T), block)
    coarse, likeliest, rows, column, exact, last, size = (
        f"{logits}_{what}" for what in ("coarse", "likeliest", "rows", "column", "exact", "last", "count")
    )
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), last))
    graph.initializer.append(numpy_helper.from_array(np.array([min(count, tokens)]), size))
    place = list(graph.node).index(head)
    steps = [
        helper.make_node("MatMul", [hidden, weights.name], [coarse], name=coarse),
        helper.make_node("TopK", [coarse, size], [f"{likeliest}_values", likeliest], name=likeliest, axis=-1, sorted=0),
        lookup(blocks, likeliest, rows, block),
        helper.make_node("Unsqueeze", [hidden, last], [column], name=column),
        helper.make_node("MatMul", [rows, column], [f"{exact}_column"], name=exact),
        helper.make_node("Squeeze", [f"{exact}_column", last], [exact], name=f"{exact}_squeezed"),
        helper.make_node("ScatterElements", [coarse, likeliest, exact], [logits], name=f"{logits}_refined", axis=-1),
    ]
    graph.node.remove(head)
    for step in reversed(steps):
        graph.node.insert(place, step)
    return blocks
