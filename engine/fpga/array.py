"""An array of cores on a board: what it multiplies in how many cycles, and what it takes of the fabric.

Several cores share the tiles of one product: groups, row tiles or column blocks are dealt
out, whichever ends first. Each core's cycles are those of engine.fpga.cycles, which equal
the RTL's; all cores read from one on-chip buffer, so that a word of each operand comes
every cycle, and the buffer is filled from the board's memory (engine.fpga.estimate).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from engine.fpga.cycles import Core, Cycles, GemmShape, MemoryPort, cycles_of
from engine.hardware.operators import Gemm

BUFFER_LATENCY = 3
"""Cycles from a request to the on-chip buffer to the cycle before its first word: address, block RAM, output register."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Bits of the operands. The core is as wide as the wider of the two."""

    weights: int = 8
    activations: int = 8

    @property
    def width(self) -> int:
        return max(self.weights, self.activations)

    def __str__(self) -> str:
        if self.weights == self.activations:
            return f"int{self.weights}"
        return f"int{self.weights} weights, int{self.activations} activations"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayDesign:
    """What is built: `cores` arrays of size × size, fed from `buffer_bytes` of on-chip memory, at `clock_hz`."""

    size: int
    cores: int
    buffer_bytes: int
    clock_hz: float
    precision: Precision = Precision()
    bank: int = 1024

    @property
    def core(self) -> Core:
        return Core(size=self.size, width=self.precision.width, bank=self.bank)

    @property
    def macs_per_cycle(self) -> int:
        return self.cores * self.size**2

    def cycles(self, gemm: Gemm) -> int:
        """Until the last core is done with its share, channel parameters written before each product."""
        return array_cycles(gemm, self.core, self.cores)


@dataclass(frozen=True, slots=True)
class Share:
    """What the core with the most work does: `times` products of `shape`, one after the other."""

    shape: GemmShape
    times: int


def shares_of(gemm: Gemm, size: int, cores: int) -> tuple[Share, ...]:
    """The ways to deal a product out over cores: by groups, by row tiles, by column blocks."""
    rows, columns = -(-gemm.m // size), -(-gemm.n // size)
    by_group = Share(GemmShape(gemm.m, gemm.k, gemm.n), -(-gemm.groups // cores))
    by_row = Share(GemmShape(min(gemm.m, -(-rows // cores) * size), gemm.k, gemm.n), gemm.groups)
    by_column = Share(GemmShape(gemm.m, gemm.k, min(gemm.n, -(-columns // cores) * size)), gemm.groups)
    if cores == 1:
        return (by_group,)
    per_group = max(cores // gemm.groups, 1)
    both = Share(GemmShape(min(gemm.m, -(-rows // per_group) * size), gemm.k, gemm.n), -(-gemm.groups * per_group // cores))
    return by_group, by_row, by_column, both


@lru_cache(maxsize=65536)
def array_cycles(gemm: Gemm, core: Core, cores: int) -> int:
    return min(share.times * product_cycles(share.shape, core) for share in shares_of(gemm, core.size, cores))


def core_cycles(shape: GemmShape, core: Core) -> Cycles:
    """One core's product out of the on-chip buffer, as the RTL takes for it."""
    return cycles_of(shape, core, buffer_port(core))


def buffer_port(core: Core) -> MemoryPort:
    """The on-chip buffer as a core sees it: a word of each operand every cycle."""
    return MemoryPort(2 * core.word_bytes, BUFFER_LATENCY)


@lru_cache(maxsize=65536)
def product_cycles(shape: GemmShape, core: Core) -> int:
    """One product on one core, in several runs where it has more column blocks than channel parameters fit."""
    widest = core.blocks * core.size
    runs, rest = divmod(shape.columns, widest)
    cycles = rest and core_cycles(GemmShape(shape.rows, shape.depth, rest), core).total
    if runs:
        cycles += runs * core_cycles(GemmShape(shape.rows, shape.depth, widest), core).total
    # a channel's parameters are one word, written before the product starts
    return cycles + shape.columns
