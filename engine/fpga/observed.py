"""What calibration saw of a product. Torch-free, so that what is made of it is as well."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from engine.fpga.grids import Reals


class ProductKind(StrEnum):
    LINEAR = "linear"
    CONV2D = "conv2d"
    MATMUL = "matmul"
    """Of two activations."""


@dataclass(eq=False)
class Observed:
    """One product over all calibration batches."""

    name: str
    product: ProductKind
    shape: tuple[int, int, int, int]
    """m, k, n, groups."""
    weight: Reals | None
    """As the product has it, folded normalisation not yet in; None of two activations."""
    bias: Reals | None
    shared_with: int
    """The first product of the pass that reads the same tensor."""
    fed_by: int | None
    """The product whose output, after what is folded into it, this one reads."""
    from_array: bool
    """What it reads is a product's output, perhaps in another layout."""
    to_array: bool = False
    """A product reads its output, perhaps in another layout."""
    rows: list[Reals] = field(default_factory=list)
    first_greatest: Reals | None = None
    """Of each channel (last axis, or axis 1 of a picture) of the first operand."""
    first_heads: Reals | None = None
    """(2, heads): range of each head of a first operand that has heads."""
    second_heads: Reals | None = None
    out_low: Reals | None = None
    out_high: Reals | None = None
    normalisation: tuple[Reals, Reals] | None = None
    """(factor, offset) of each output channel."""
    relu: bool = False
