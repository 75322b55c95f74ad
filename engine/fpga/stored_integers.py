"""Integer products as one file, and back. Torch-free; nothing in it is code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.fpga.fixed_point import Integers
from engine.fpga.integer_network import IntegerProduct
from engine.fpga.observed import ProductKind

FILE = "integers.npz"


def save(products: Sequence[IntegerProduct], directory: Path) -> Path:
    """One .npz; nothing in it is code."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for index, product in enumerate(products):
        texts = np.array([product.name, str(product.kind)])
        numbers = np.array([*product.shape, product.out_zero, product.relu, product.folded, *product.bits], np.int64)
        own = {key: getattr(product, key) for key in _ARRAYS} | {"weights": _packed(product)}
        arrays |= {f"{index:04d}.{key}": array for key, array in own.items() if array.size}
        arrays |= {f"{index:04d}.texts": texts, f"{index:04d}.numbers": numbers}
    path = directory / FILE
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def load(directory: Path) -> tuple[IntegerProduct, ...]:
    with np.load(directory / FILE, allow_pickle=False) as stored:
        count = sum(name.endswith(".texts") for name in stored.files)
        return tuple(
            _loaded({key: stored[f"{i:04d}.{key}"] for key in (*_ARRAYS, "texts", "numbers") if f"{i:04d}.{key}" in stored})
            for i in range(count)
        )


_ARRAYS = (
    "first_scale", "first_zero", "divisor", "weights", "second_scale", "bias", "multiplier", "shift", "out_scale",
    "host_bias",
)  # fmt: skip


def _loaded(arrays: Mapping[str, NDArray[np.generic]]) -> IntegerProduct:
    name, kind = (str(text) for text in arrays["texts"])
    m, k, n, groups, out_zero, relu, folded, weight_bits, activation_bits = (int(v) for v in arrays["numbers"])
    # what a kind has no use for is not stored
    rest = {key: arrays.get(key, np.zeros(0, np.float32)) for key in _ARRAYS}
    if weight_bits <= 4 and rest["weights"].size:
        rest["weights"] = _unpacked(rest["weights"].astype(np.uint8), n * groups)
    return IntegerProduct(
        name=name, kind=ProductKind(kind), shape=(m, k, n, groups), out_zero=out_zero, relu=bool(relu), folded=bool(folded),
        bits=(weight_bits, activation_bits), **rest,  # type: ignore[arg-type]
    )  # fmt: skip


def _packed(product: IntegerProduct) -> NDArray[np.generic]:
    """Weights of four bits go two in a byte, the even column in the lower half."""
    if product.bits[0] > 4 or not product.weights.size:
        return product.weights
    columns = product.weights.shape[1]
    even = np.pad(product.weights, ((0, 0), (0, columns % 2))).view(np.uint8) & 15
    return even[:, 0::2] | even[:, 1::2] << 4


def _unpacked(packed: NDArray[np.uint8], columns: int) -> Integers:
    halves = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)[:, :columns].astype(np.int8)
    signed: Integers = np.where(halves > 7, halves - 16, halves).astype(np.int8)
    return signed
