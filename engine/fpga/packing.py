"""Operands as the core's memory holds them: words of N elements, tile after tile (`rtl/gemm_core.v` says the order)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.fpga.fixed_point import Integers, Requantization, integer_type

Words = NDArray[np.uint8]
"""(words, bytes of a word)."""


def pack_activations(activations: Integers, lanes: int, width: int) -> Words:
    """(M, K): for each tile of `lanes` rows K words; word k holds column k of these rows, zeros below the last row."""
    rows, depth = activations.shape
    tiles = -(-rows // lanes)
    padded = np.zeros((tiles * lanes, depth), activations.dtype)
    padded[:rows] = activations
    return _words(padded.reshape(tiles, lanes, depth).transpose(0, 2, 1).reshape(tiles * depth, lanes), width)


def pack_weights(weights: Integers, lanes: int, width: int) -> Words:
    """(K, O): for each block of `lanes` columns K words; word k holds row k of these columns."""
    return pack_activations(weights.T, lanes, width)


def pack_parameters(requantization: Requantization, lanes: int) -> NDArray[np.uint64]:
    """{shift - 1, multiplier, bias} of each channel, zeros behind the last: (column blocks * lanes,)."""
    channels = requantization.bias.shape[0]
    words = np.zeros(-(-channels // lanes) * lanes, np.uint64)
    words[:channels] = (
        (requantization.shift - 1).astype(np.uint64) << np.uint64(48)
        | requantization.multiplier.astype(np.uint64) << np.uint64(32)
        | requantization.bias.astype(np.int32).view(np.uint32).astype(np.uint64)
    )
    return words


def pack_results(results: Integers, lanes: int, width: int) -> Words:
    """(M, O), both multiples of `lanes`, in the order in which the core answers."""
    rows, columns = results.shape
    return _words(results.reshape(rows, columns // lanes, lanes).transpose(1, 0, 2).reshape(-1, lanes), width)


def unpack_results(words: Words, rows: int, columns: int, lanes: int, width: int) -> Integers:
    """Words in the order (column block, row tile, row) as (M, O)."""
    tiles, blocks = -(-rows // lanes), -(-columns // lanes)
    elements = _elements(words, lanes, width).reshape(blocks, tiles * lanes, lanes)
    return elements.transpose(1, 0, 2).reshape(tiles * lanes, blocks * lanes)[:rows, :columns]


def word_bytes(lanes: int, width: int) -> int:
    """Bytes that one word takes in memory."""
    return -(-lanes * width // 8)


def _words(elements: Integers, width: int) -> Words:
    """(words, lanes): element i in bits i * width and up."""
    if width == 8:
        return np.ascontiguousarray(elements, np.int8).view(np.uint8)
    bits = elements.astype(np.int64)[..., None] >> np.arange(width) & 1
    return np.packbits(bits.astype(np.uint8).reshape(len(elements), -1), axis=1, bitorder="little")


def _elements(words: Words, lanes: int, width: int) -> Integers:
    """The inverse of `_words`, sign extended."""
    if width == 8:
        return words.view(np.int8)
    bits = np.unpackbits(words, axis=1, count=lanes * width, bitorder="little").reshape(len(words), lanes, width)
    values = (bits.astype(np.int64) << np.arange(width)).sum(-1)
    signed: Integers = np.where(bits[..., -1], values - (1 << width), values).astype(integer_type(width))
    return signed
