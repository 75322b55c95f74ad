"""The model of AMD's DPU against its published end-to-end latencies: fitted on three rows, held against the others.

    python -m benchmarks.fpga_dpu [--json benchmarks/results/fpga_dpu.json]

The rows and which of them are fitted are in dpu_rows.toml, committed before the first prediction.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tomllib
from pathlib import Path
from typing import Any

from engine.fpga.dpu import DpuConstants, dpu
from engine.fpga.estimate import estimate
from engine.hardware.networks import network
from engine.hardware.operators import Network

ROWS = Path(__file__).parent / "dpu_rows.toml"
BAND = 0.25


def networks(rows: list[dict[str, Any]]) -> dict[str, Network]:
    return {r["network"]: network(r["network"], image_size=227 if r["network"] == "squeezenet" else 224) for r in rows}


def predicted(row: dict[str, Any], shapes: dict[str, Network], constants: DpuConstants) -> float:
    """Milliseconds."""
    return estimate(shapes[row["network"]], dpu(row["board"], constants)).seconds * 1e3


def fitted(rows: list[dict[str, Any]], shapes: dict[str, Network]) -> DpuConstants:
    """Least squares of relative errors over the three constants, by trying a grid and then finer ones around the best."""
    centre, spans = (2e-3, 6e9, 0.5), (2e-3, 4e9, 0.5)
    for _ in range(6):
        axes = [[c + s * step / 4 for step in range(-4, 5)] for c, s in zip(centre, spans, strict=True)]
        tried = [
            DpuConstants(call_seconds=max(a, 0.0), memory_bytes_per_second=max(b, 1e8), exposed=min(max(e, 0.0), 1.0))
            for a, b, e in itertools.product(*axes)
        ]
        best = min(tried, key=lambda c: sum((predicted(r, shapes, c) / r["milliseconds"] - 1) ** 2 for r in rows))
        centre = (best.call_seconds, best.memory_bytes_per_second, best.exposed)
        spans = tuple(s / 2.5 for s in spans)  # type: ignore[assignment]
    return best


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("--fit-only", action="store_true")
    options = parser.parse_args()
    rows = tomllib.loads(ROWS.read_text())
    shapes = networks([*rows["fit"], *rows["held_out"]])
    constants = fitted(rows["fit"], shapes)
    print(f"fitted: {constants}")
    table = []
    for use in ("fit",) if options.fit_only else ("fit", "held_out"):
        for row in rows[use]:
            value = predicted(row, shapes, constants)
            table.append({**row, "use": use, "predicted": round(value, 2), "error": round(value / row["milliseconds"] - 1, 4)})
            print(f"{use:9} {row['board']} {row['network']:18} {row['milliseconds']:6.2f} ms, model {value:6.2f} ms {table[-1]['error']:+.1%}")
    held = [abs(r["error"]) for r in table if r["use"] == "held_out"]
    if held:
        print(f"held out: {sum(e <= BAND for e in held)} of {len(held)} within {BAND:.0%}; mean |error| {sum(held) / len(held):.1%}")
    if options.json:
        result = {"source": rows["source"], "constants": {
            "call_ms": constants.call_seconds * 1e3, "memory_gb_per_s": constants.memory_bytes_per_second / 1e9,
            "exposed": constants.exposed}, "rows": table}  # fmt: skip
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
