"""Tier 4, what is known: resources and clock of cores that were synthesised, in a home or committed (`data/`).

Found by `engine.fpga.synthesizing`. Files are kept by the core's parameters and carry a digest of the Verilog they were
made from, so that the analytic model has figures of tools without running any.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from statistics import median

from engine.domain.codec import decode, encode
from engine.fpga.build import RTL, core_parameters
from engine.fpga.cycles import Core

FIGURES = "fpga/synthesis"
"""Of a home: its own syntheses."""
WANTED_MHZ = 250
"""What nextpnr aims at: above what the core reaches, so that it never stops trying."""
_DATA = Path(__file__).with_name("data")
_ECP5_DSPS = 156
"""Of the ECP5-85F."""
_REMARK = re.compile(r"//.*")
_FLOW = 2
"""Grows when the same Verilog is mapped otherwise than before; 2: registers in the blocks beside them."""


class Family(StrEnum):
    """For which family of devices yosys maps the core."""

    ECP5 = "ecp5"
    SERIES_7 = "xc7"
    ULTRASCALE_PLUS = "xcup"


@dataclass(frozen=True, slots=True)
class Resources:
    """What the core alone takes. Counted after mapping, before packing."""

    luts: int
    """Look-up tables, those of carry chains, shift registers and distributed memory included."""
    flip_flops: int
    dsps: int
    """Multiplier blocks (ECP5: 18 x 18; Xilinx: DSP48)."""
    block_memories: int
    """Of 18 kbit (a 36 kbit block counts as two)."""


@dataclass(frozen=True, slots=True)
class PathStep:
    """A hop of the critical path."""

    kind: str
    """clk-to-q, routing, logic or setup."""
    delay_ns: float
    cell: str
    """Where it ends."""


@dataclass(frozen=True, slots=True)
class Route:
    """One place-and-route run."""

    seed: int
    fmax_mhz: float
    critical_path: tuple[PathStep, ...]


@dataclass(frozen=True, slots=True)
class Synthesis:
    """All that is known of one core."""

    core: Core
    source: str
    """Digest of the Verilog and its parameters."""
    tools: str
    made_at: str
    multipliers_in_luts: bool
    """The device has too few multiplier blocks: products are made of look-up tables."""
    resources: dict[Family, Resources]
    device: str
    """That was placed and routed for."""
    routes: tuple[Route, ...]
    """Best first; empty before place and route."""
    own: bool = False
    """Found in the home it was read from, not committed with Speedrail."""

    @property
    def is_current(self) -> bool:
        """Made from the Verilog as it is now."""
        return self.source == source_digest(self.core)

    @property
    def fmax_mhz(self) -> float | None:
        """The median over seeds; None before place and route."""
        return median(route.fmax_mhz for route in self.routes) if self.routes else None


def source_digest(core: Core) -> str:
    """Of what synthesis reads: the Verilog without remarks and layout, and the parameters."""
    digest = hashlib.sha256(f"flow {_FLOW}".encode())
    for path in sorted(RTL.glob("*.v")):
        words = " ".join(_REMARK.sub("", path.read_text()).split())
        digest.update(f"{path.name}\0{words}".encode())
    digest.update(repr(sorted(core_parameters(core).items())).encode())
    return digest.hexdigest()[:16]


def fits_ecp5(core: Core) -> bool:
    """Its products find multiplier blocks on an ECP5-85F: one for each element, one for each requantizer.

    A greater core is mapped to look-up tables there, and takes hours.
    """
    return core.size**2 + core.size <= _ECP5_DSPS


def known(core: Core, home: Path | None = None) -> Synthesis | None:
    """What has been found of this core, in this home or committed with Speedrail; None if nothing has.

    Rather what was made from the present Verilog.
    """
    return _best(f"{_name(core)}.json", figures(home) if home else None)


def all_known(own: Path | None = None) -> tuple[Synthesis, ...]:
    """Every core of which something is known, smallest first: committed, or among a home's figures (a folder), which win
    over committed ones unless they were made from an earlier Verilog."""
    names = {path.name for folder in (_DATA, own) if folder for path in folder.glob("n*.json")}
    cores = [found for name in names if (found := _best(name, own))]
    return tuple(sorted(cores, key=lambda s: (s.core.size, s.core.width, s.core.bank, s.core.blocks)))


def _best(name: str, own: Path | None) -> Synthesis | None:
    places = [folder / name for folder in (own, _DATA) if folder]
    found = [replace(decode(Synthesis, place.read_text()), own=place.parent == own) for place in places if place.is_file()]
    return next((s for s in found if s.is_current), found[0] if found else None)


def nearest_routed(core: Core, home: Path | None = None) -> Synthesis | None:
    """The core itself or the largest smaller one of its width that was placed and routed; else the smallest that was."""
    routed = [s for s in all_known(figures(home) if home else None) if s.routes and s.core.width == core.width]
    smaller = [s for s in routed if s.core.size <= core.size]
    return smaller[-1] if smaller else routed[0] if routed else None


def figures(home: Path) -> Path:
    """The folder in which a home keeps what is found."""
    return home / FIGURES


def kept(core: Core, home: Path) -> Path:
    """Where a home keeps what is found of this core."""
    return figures(home) / f"{_name(core)}.json"


def keep(found: Synthesis, home: Path) -> None:
    """All or nothing."""
    place = kept(found.core, home)
    fresh = place.with_suffix(".new")
    fresh.write_text(json.dumps(json.loads(encode(replace(found, own=False))), indent=1) + "\n")
    fresh.replace(place)


def _name(core: Core) -> str:
    """Of the file; a core with banks of its own size is another core."""
    usual = Core(size=core.size, width=core.width)
    suffix = "" if core == usual else f"-bank{core.bank}-blocks{core.blocks}"
    return f"n{core.size}-w{core.width}{suffix}"
