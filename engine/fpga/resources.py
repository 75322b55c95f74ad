"""What a design takes of a board's fabric, and whether it fits.

DSP and RAM blocks are counted from the structure of rtl/: one multiplier for each
processing element and one for each requantizer lane; per core two operands in two banks
of `bank` words, and 512 channel parameters of 54 bits a lane. LUTs and flip-flops are
what synthesis gave for that core (engine.fpga.synthesis: committed, or found in this home);
for other cores they follow a + b · N + c · N² (data/fabric.toml), scaled to those that were
synthesised; where a family was not, the nearest one stands in, and the result says so. The
clock is what place and route reached on an ECP5 and the catalogue's assumption elsewhere.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

from engine.fpga.array import ArrayDesign
from engine.fpga.cycles import Core
from engine.fpga.synthesis import Family, Synthesis, all_known
from engine.hardware.fpgas import URAM_KBIT, Fpga

_WIDTH = 8
"""Bits of the operands that the lines of data/fabric.toml are for, and whose clock stands in for other widths'."""
_BITS_IN_LUTS = 4
"""Products of operands as narrow as that are made of LUTs: assumed of cores that were not synthesised."""
PARAMETER_BITS = 54
"""Bias 32, multiplier 16, shift 6."""
TITLES = {"lut": "LUTs", "ff": "Flip-flops", "dsp": "DSPs", "ram_kbit": "On-chip RAM"}
LUT_SHARE, FF_SHARE, DSP_SHARE, RAM_SHARE = 0.75, 0.75, 0.95, 0.9
"""Of a board that a design may take: beyond, routing fails or the clock falls. The rest is the memory controller's."""


@dataclass(frozen=True, slots=True)
class Cells:
    """What one core takes, and where that is from."""

    luts: float
    flip_flops: float
    multipliers: int
    """DSPs where each does one product."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """LUTs and flip-flops of one core: a + b · N + c · N², by operand width."""

    lut: tuple[float, float, float]
    ff: tuple[float, float, float]
    lut_multiplier: float
    """LUTs of one product of 4 × 4 bits that does without a DSP."""
    source: str
    counted: Mapping[tuple[int, int], Cells] = field(default_factory=dict)
    """Of synthesised cores, by (N, width)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Counts, and the limits of the board they are held against."""

    lut: int
    ff: int
    dsp: int
    ram_kbit: int
    """Banks, channel parameters and the buffer."""
    limits: dict[str, float]
    source: str

    def shares(self) -> dict[str, float]:
        """Name to share of the board."""
        taken = {"lut": self.lut, "ff": self.ff, "dsp": self.dsp, "ram_kbit": self.ram_kbit}
        return {name: value / self.limits[name] for name, value in taken.items() if self.limits[name]}

    @property
    def fits(self) -> bool:
        allowed = {"lut": LUT_SHARE, "ff": FF_SHARE, "dsp": DSP_SHARE, "ram_kbit": RAM_SHARE}
        return all(share <= allowed[name] for name, share in self.shares().items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """What an array of some size is clocked with on a board, in Hz."""

    hertz: float
    low: float
    high: float
    status: str
    """`assumed`, or by what it was found."""


@dataclass(frozen=True, slots=True, eq=False)
class Syntheses:
    """The cores that tools were run on, smallest first: where clock and resources come from."""

    cores: tuple[Synthesis, ...]

    def mapped(self, family: Family) -> list[Synthesis]:
        """For that family; those that lack multiplier blocks on an ECP5 left out, as no design has them."""
        return [s for s in self._usual() if family in s.resources and not s.multipliers_in_luts]

    def routed(self, width: int) -> list[Synthesis]:
        return [s for s in self._usual() if s.routes and s.core.width == width]

    def _usual(self) -> list[Synthesis]:
        """Of the banks that a design has."""
        return [s for s in self.cores if s.core == Core(size=s.core.size, width=s.core.width)]


@cache
def committed() -> Syntheses:
    """Those that come with Speedrail."""
    return Syntheses(all_known())


@lru_cache(maxsize=256)
def clock_of(board: Fpga, size: int, known: Syntheses, width: int = _WIDTH) -> Clock:
    """Place and route's median over seeds for the next larger array it was run on (the largest, where none is larger), of
    that width if there is one."""
    usual = known.routed(_WIDTH) if board.family == "ecp5" else []
    if not usual:
        figure = board.clock_mhz
        return Clock(hertz=figure.value * 1e6, low=figure.low * 1e6, high=figure.high * 1e6, status=str(figure.status))
    chosen = next((s for s in (*known.routed(width), *usual) if s.core.size >= size), usual[-1])
    reached = sorted(route.fmax_mhz * 1e6 for route in chosen.routes)
    note = "" if chosen.core.size >= size else f", which is smaller than {size}"
    return Clock(
        hertz=median(reached), low=reached[0], high=reached[-1],
        status=f"place and route of {_origin(chosen)}, {len(reached)} seed{'s' * (len(reached) > 1)}{note}",
    )  # fmt: skip


def _origin(synthesis: Synthesis) -> str:
    """`N = 8`, and what is remarkable about it and where that was found."""
    width = synthesis.core.width
    remarks = [f"{width} bits"] * (width != _WIDTH) + ["in this home"] * synthesis.own + ["an earlier Verilog"] * (not synthesis.is_current)
    return f"N = {synthesis.core.size}" + f" ({', '.join(remarks)})" * bool(remarks)


def resources_of(design: ArrayDesign, board: Fpga, known: Syntheses) -> Resources:
    """What `design` takes of `board`."""
    n, cores = design.size, design.cores
    one = _cells(n, design.precision.width, fabric_of(board.family, known))
    return Resources(
        lut=ceil(cores * one.luts), ff=ceil(cores * one.flip_flops),
        dsp=ceil(cores * one.multipliers / board.mac_per_dsp.value),
        ram_kbit=ceil(cores * banks_kbit(design, board) + design.buffer_bytes * 8 / 1024),
        limits={
            "lut": board.lut.value, "ff": board.ff.value, "dsp": board.dsp.value,
            "ram_kbit": board.bram.value * board.bram_kbit.value + board.uram.value * URAM_KBIT,
        },
        source=one.source,
    )  # fmt: skip


def _cells(n: int, width: int, fabric: Fabric) -> Cells:
    if (n, width) in fabric.counted:
        return fabric.counted[n, width]
    scale, narrow = width / _WIDTH, width <= _BITS_IN_LUTS
    products = fabric.lut_multiplier * n * n if narrow else 0
    return Cells(
        _line(fabric.lut, n, scale) + products, _line(fabric.ff, n, scale), n if narrow else n * n + n, fabric.source
    )


def banks_kbit(design: ArrayDesign, board: Fpga) -> float:
    """One core's banks and channel parameters in whole RAM blocks, as kbit."""
    core, block = design.core, board.bram_kbit.value
    words = 2 * core.bank
    bits_wide = max(block * 1024 // words, 1)
    operands = 2 * ceil(core.size * core.width / bits_wide)
    parameters = core.size * ceil(core.blocks * PARAMETER_BITS / (block * 1024))
    return (operands + parameters) * block


@lru_cache(maxsize=16)
def fabric_of(family: str, known: Syntheses) -> Fabric:
    """Of the family, or of the nearest that was synthesised."""
    tables = _tables()
    nearest = family if family in tables else "ultrascale+"
    table, mapped_for = tables[nearest], _FAMILIES[nearest]
    note = "" if family in tables else f" (stands in for {family})"
    found = [(s, s.resources[mapped_for]) for s in known.mapped(mapped_for)]
    lined = [(s, taken) for s, taken in found if s.core.width == _WIDTH]
    if not lined:
        return Fabric(
            lut=tuple(table["lut"]), ff=tuple(table["ff"]), lut_multiplier=table["lut_multiplier"],
            source="counted from the RTL's registers and adders, not synthesised" + note,
        )  # fmt: skip
    names = ", ".join(_origin(s) for s, _ in lined)
    return Fabric(
        lut=_scaled(table["lut"], [(s.core.size, taken.luts) for s, taken in lined]),
        ff=_scaled(table["ff"], [(s.core.size, taken.flip_flops) for s, taken in lined]),
        lut_multiplier=table["lut_multiplier"], source=f"scaled to yosys' synthesis of {names}{note}",
        counted={
            (s.core.size, s.core.width): Cells(
                taken.luts, taken.flip_flops, taken.dsps, f"yosys' synthesis of {_origin(s)}{note}"
            )
            for s, taken in found
        },
    )  # fmt: skip


_FAMILIES = {"ecp5": Family.ECP5, "7-series": Family.SERIES_7, "ultrascale+": Family.ULTRASCALE_PLUS}


def _scaled(line: list[float], found: list[tuple[int, int]]) -> tuple[float, float, float]:
    """The line, so that on average over the cores it gives what was found."""
    a, b, c = line
    ratio = sum(value / _line((a, b, c), size, 1.0) for size, value in found) / len(found)
    return a * ratio, b * ratio, c * ratio


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "data" / "fabric.toml").read_text())


def _line(coefficients: tuple[float, float, float], n: int, scale: float) -> float:
    """Registers and adders of the operands shrink with their width, those of the sums do not: half each."""
    a, b, c = coefficients
    return a + b * n + c * n * n * (0.5 + 0.5 * scale)
