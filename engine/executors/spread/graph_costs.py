"""What each node of an exported graph costs: a roofline over the shapes that the export left in node.meta["val"]."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import torch
from torch import Tensor, fx

FLOPS = 50e9
BYTES = 10e9
"""Arithmetic and memory of one core, a second: only their proportion decides where a graph is cut."""
LINK = 1e9
LINK_LATENCY = 50e-6
"""gloo over loopback: bytes a second, and seconds a message."""


def node_seconds(node: fx.Node) -> float:
    """Roofline time of one operator; 0 for what does not compute."""
    if node.op != "call_function":
        return 0.0
    moved = sum(map(size_of, node.all_input_nodes)) + size_of(node)
    return max(flops_of(node) / FLOPS, moved / BYTES)


def link_seconds(size: int) -> float:
    return LINK_LATENCY + size / LINK


def size_of(node: fx.Node) -> int:
    """Bytes of a node's value."""
    return sum(value.numel() * value.element_size() for value in tensors_of(node))


def tensors_of(node: fx.Node) -> list[Tensor]:
    value: Any = node.meta.get("val")
    found: Iterable[Any] = value if isinstance(value, (tuple, list)) else (value,)
    return [v for v in found if isinstance(v, Tensor)]


def flops_of(node: fx.Node) -> float:
    """Multiply-adds count two. Operators that are not products are bound by memory."""
    ops = torch.ops.aten
    shapes = [v.shape for n in node.all_input_nodes for v in tensors_of(n)]
    out = tensors_of(node)
    if not out or not shapes:
        return 0.0
    made = float(prod(out[0].shape))
    match node.target:
        case ops.linear.default | ops.mm.default | ops.matmul.default | ops.bmm.default:
            return 2.0 * made * shapes[0][-1]
        case ops.addmm.default:
            return 2.0 * made * shapes[1][-1]
        case ops.conv2d.default | ops.convolution.default:
            return 2.0 * made * prod(shapes[1][1:])
        case ops.scaled_dot_product_attention.default:
            return 4.0 * made * shapes[1][-2]
    return 0.0
