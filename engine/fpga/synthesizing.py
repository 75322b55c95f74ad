"""Tier 4, the tools: what the core costs and how fast it can be clocked, by yosys and nextpnr (extra `fpga`).

    resources        `synth_ecp5` and `synth_xilinx` on the core alone; on ECP5, registers move into the blocks beside them
    place and route  the core behind four pins on an ECP5-85F, speed grade 6, once for each seed; the worst path parsed

Minutes to a quarter of an hour a core: `engine.fpga.synthesis_jobs` starts it in a process of its own. What is found is kept after every step
(`engine.fpga.synthesis`); that of the common cores is committed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.fpga.block_registers import fill_block_registers
from engine.fpga.build import RTL, TOP, core_parameters
from engine.fpga.cycles import Core
from engine.fpga.synthesis import (
    WANTED_MHZ,
    Family,
    PathStep,
    Resources,
    Route,
    Synthesis,
    fits_ecp5,
    keep,
    kept,
    known,
    source_digest,
)
from engine.fpga.synthesis_jobs import FINISHED, alone
from engine.fpga.synthesis_tools import nextpnr, require_tools, versions, yosys

HARNESS = "synthesis_harness"
NETLIST = "core.json"
DEVICE = "ECP5-85F, speed grade 6"
SEEDS = (1, 2, 3)


def synthesize(
    core: Core, home: Path, *, seeds: Sequence[int] = SEEDS, tell: Callable[[str], None] = lambda words: None
) -> Synthesis:
    """Resources for all families, then place and route for each seed. What is found is kept after every step.

    Raises ToolError when the tools are missing, fail or overrun; what was kept until then stays.
    """
    require_tools()
    with alone(core, home), _folder(kept(core, home)) as folder:
        found = known(core, home)
        work = Path(folder)
        if found is None or not found.is_current:
            found = _resources(core, work, tell)
            keep(found, home)
        missing = [seed for seed in seeds if seed not in {route.seed for route in found.routes}]
        if missing:
            tell("mapping the core behind its pins")
            _mapped_for_ecp5(core, HARNESS, work, found.multipliers_in_luts)
        for seed in missing:
            tell(f"place and route, seed {seed}")
            routes = [*found.routes, _route(work, seed)]
            found = replace(found, routes=tuple(sorted(routes, key=lambda r: -r.fmax_mhz)))
            keep(found, home)
    tell(FINISHED)
    return found


def _folder(place: Path) -> tempfile.TemporaryDirectory[str]:
    """To work in. Whoever was killed at this core's synthesis could not clear up its own."""
    prefix = f"run-{place.stem}."
    for left in place.parent.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    return tempfile.TemporaryDirectory(dir=place.parent, prefix=prefix)


# ---- yosys -----------------------------------------------------------------------------------------------------------


def _resources(core: Core, work: Path, tell: Callable[[str], None]) -> Synthesis:
    in_luts = not fits_ecp5(core)
    counts: dict[Family, Resources] = {}
    for family in Family:
        tell(f"mapping for {family}")
        if family is Family.ECP5:
            counts[family] = _counted(_cells(_mapped_for_ecp5(core, TOP, work, in_luts), TOP))
        else:
            _read_and(work, core, TOP, f"synth_xilinx -family {family} -flatten -top {TOP}; tee -q -o stat.json stat -json")
            counts[family] = _counted(json.loads((work / "stat.json").read_text())["design"]["num_cells_by_type"])
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Synthesis(core, source_digest(core), versions(), now, in_luts, counts, DEVICE, ())


def _mapped_for_ecp5(core: Core, top: str, work: Path, in_luts: bool) -> dict[str, Any]:
    """The netlist, which is left in core.json for nextpnr."""
    _read_and(work, core, top, f"synth_ecp5 -top {top}{' -nodsp' if in_luts else ''} -json {NETLIST}")
    netlist: dict[str, Any] = json.loads((work / NETLIST).read_text())
    fill_block_registers(netlist)
    (work / NETLIST).write_text(json.dumps(netlist))
    return netlist


def _read_and(work: Path, core: Core, top: str, commands: str) -> None:
    rtl = work / "rtl"
    if not rtl.exists():
        shutil.copytree(RTL, rtl)
    parameters = "".join(f"chparam -set {name} {value} {top}; " for name, value in core_parameters(core).items())
    yosys(f"read_verilog rtl/*.v; {parameters}{commands}", work)


def _cells(netlist: Mapping[str, Any], top: str) -> Counter[str]:
    """Cells by type, those of the modules within included."""
    found: Counter[str] = Counter()
    for cell in netlist["modules"][top]["cells"].values():
        inner = netlist["modules"].get(cell["type"])
        if inner is None or "blackbox" in inner["attributes"]:
            found[cell["type"]] += 1
        else:
            found += _cells(netlist, cell["type"])
    return found


def _counted(cells: Mapping[str, int]) -> Resources:
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
        "--85k", "--package", "CABGA756", "--speed", "6", "--json", NETLIST, "--freq", str(WANTED_MHZ),
        "--seed", str(seed), "--report", "report.json", "--timing-allow-fail", "--lpf-allow-unconstrained", "--quiet",
    ]  # fmt: skip
    nextpnr(arguments, work)
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
