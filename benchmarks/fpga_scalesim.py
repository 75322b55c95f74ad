"""Cycles against SCALE-Sim, the simulator of systolic arrays that others compare with.

    python -m benchmarks.fpga_scalesim --python ITS/bin/python [--gemms 60] [--seed 1] [--json benchmarks/results/fpga_scalesim.json]

SCALE-Sim (`pip install scalesim==3.0.0 'numpy<2'` in an environment of its own; no dependency of this project) runs random
GEMMs on output-stationary arrays of 4, 8 and 16. Two equalities must hold for every one of them:

    SCALE-Sim  =  T (K + 2N - 2) - 1                                          `scalesim_cycles`, as published
    the core   =  SCALE-Sim  +  first load + N + 28  +  stalls  -  (T - 1) (K + 2N - 2 - max(K, 2N))

The first summand is what SCALE-Sim does not simulate (loading, requantizer, leaving the array), stalls are the bubbles of the
recurrence (its memory is ideal, ours has one port); the last is what the core saves by starting a tile behind the one before instead
of waiting for its wavefront's end. Exits with 1 on any difference.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from engine.fpga.cycles import Core, GemmShape, MemoryPort, cycles_of, scalesim_cycles

SIZES = (4, 8, 16)
_CONFIGURATION = """[general]
run_name = gemms
[architecture_presets]
ArrayHeight = {size}
ArrayWidth = {size}
IfmapSramSzkB = 1024
FilterSramSzkB = 1024
OfmapSramSzkB = 1024
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = os
Bandwidth = 10
ReadRequestBuffer = 32
WriteRequestBuffer = 32
[layout]
IfmapCustomLayout = False
FilterCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""


def draw(number: int, size: int, rng: np.random.Generator) -> list[GemmShape]:
    """Up to a few tiles in each direction, ragged edges among them."""
    return [
        GemmShape(int(rng.integers(1, 4 * size)), int(rng.integers(1, 200)), int(rng.integers(1, 4 * size)))
        for _ in range(number)
    ]


def run_scalesim(python: Path, size: int, shapes: list[GemmShape]) -> list[tuple[int, int]]:
    """(compute cycles, stall cycles) as SCALE-Sim reports them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [f"g{i},{s.rows},{s.columns},{s.depth},1:1," for i, s in enumerate(shapes)]
        (folder / "gemms.csv").write_text("\n".join(["Layer,M,N,K,Sparsity,", *rows]) + "\n")
        layout = [f"g{i}," + "1," * 20 for i in range(len(shapes))]
        (folder / "layout.csv").write_text("\n".join(["Layer," + "factor," * 20, *layout]) + "\n")
        (folder / "scale.cfg").write_text(_CONFIGURATION.format(size=size))
        subprocess.run(
            [python, "-m", "scalesim.scale", "-c", "scale.cfg", "-t", "gemms.csv", "-l", "layout.csv", "-i", "gemm", "-s", "N",
             "-p", "out"],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
        with (folder / "out" / "gemms" / "COMPUTE_REPORT.csv").open() as report:
            found = [{k.strip(): v.strip() for k, v in row.items() if k} for row in csv.DictReader(report)]
    return [(round(float(row["Total Cycles"])), round(float(row["Stall Cycles"]))) for row in found]


def expected_of_the_core(shape: GemmShape, size: int, theirs: int) -> int:
    """From SCALE-Sim's count, without stalls. Loading K steps takes K cycles."""
    tiles = -(-shape.rows // size) * -(-shape.columns // size)
    wavefront = shape.depth + 2 * size - 2
    return theirs + shape.depth + size + 28 - (tiles - 1) * (wavefront - max(shape.depth, 2 * size))


def compared(python: Path, size: int, number: int, rng: np.random.Generator) -> dict[str, Any]:
    shapes, core = draw(number, size, rng), Core(size=size)
    began = time.monotonic()
    theirs = run_scalesim(python, size, shapes)
    seconds = time.monotonic() - began
    formula = core_differs = 0
    for shape, (cycles, stalls) in zip(shapes, theirs, strict=True):
        ours = cycles_of(shape, core, MemoryPort(2 * core.word_bytes))
        formula += (cycles, stalls) != (scalesim_cycles(shape, size), 0)
        core_differs += ours.total - ours.stalled != expected_of_the_core(shape, size, cycles)
    return {
        "size": size, "gemms": number, "formula_differs": formula, "core_differs": core_differs,
        "scalesim_cycles": sum(cycles for cycles, _ in theirs), "scalesim_seconds": round(seconds, 1),
    }  # fmt: skip


def main(arguments: list[str]) -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--python", type=Path, required=True, help="of the environment that has scalesim")
    options.add_argument("--gemms", type=int, default=60, help="for each size of the array")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--json", type=Path)
    chosen = options.parse_args(arguments)
    rng = np.random.default_rng(chosen.seed)
    version = subprocess.run(
        [chosen.python, "-c", "from importlib.metadata import version; print(version('scalesim'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    rows = [compared(chosen.python, size, chosen.gemms, rng) for size in SIZES]
    text = json.dumps({"scalesim": version, "seed": chosen.seed, "rows": rows}, indent=2)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n")
    return 0 if not any(row["formula_differs"] or row["core_differs"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
