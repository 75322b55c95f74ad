"""The catalogue of FPGA boards (data/fpgas.toml): every figure with its source and how well it is founded."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from engine.hardware.entries import DATA, SourceStatus, pick

URAM_KBIT = 288
"""Size of one UltraRAM block."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a data sheet, tool report or our judgement; `low` and `high` are its range."""

    value: float
    low: float
    high: float
    status: SourceStatus
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fpga:
    """A board. Counts are of the fabric's own blocks; units as in the data file."""

    id: str
    title: str
    family: str
    part: str
    host: str
    """What is at the other end of the link and does what the array cannot."""
    note: str = ""
    lut: Figure
    ff: Figure
    dsp: Figure
    mac_per_dsp: Figure
    """int8 products of this project's array that fit one DSP block."""
    bram: Figure
    bram_kbit: Figure
    uram: Figure
    memory_gb_per_s: Figure
    memory_gb: Figure
    host_gb_per_s: Figure
    host_latency_us: Figure
    host_gops: Figure
    clock_mhz: Figure
    power_w: Figure
    peak_tops: Figure | None = None
    """int8 TOP/s of the vendor's special blocks, which the array does not use."""

    @property
    def on_chip_bytes(self) -> float:
        """Block RAM and UltraRAM together."""
        return (self.bram.value * self.bram_kbit.value + self.uram.value * URAM_KBIT) * 1024 / 8

    def figures(self) -> dict[str, Figure]:
        """Name to figure, in the order of the fields."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: figure for name, figure in named if isinstance(figure, Figure)}


@cache
def fpgas() -> tuple[Fpga, ...]:
    data = tomllib.loads((DATA / "fpgas.toml").read_text())
    return tuple(_fpga(table, data["sources"]) for table in data["fpga"])


def fpga_of(id: str) -> Fpga:
    """Raises NotFound."""
    return pick(fpgas(), id, "FPGA")


def _fpga(table: dict[str, Any], sources: dict[str, str]) -> Fpga:
    values: dict[str, Any] = {
        name: _figure(value, sources) if isinstance(value, dict) else value for name, value in table.items()
    }
    return Fpga(**values)


def _figure(table: dict[str, Any], sources: dict[str, str]) -> Figure:
    value = float(table["value"])
    return Figure(
        value, float(table.get("low", value)), float(table.get("high", value)), SourceStatus(table["status"]),
        sources[table["source"]],
    )  # fmt: skip
