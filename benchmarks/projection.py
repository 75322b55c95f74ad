"""The GPU projection against published figures: `python -m benchmarks.projection [--fit]`.

Without `--fit`: projects every row of gpu_rows.toml and writes results/projection.json.
With it: first fits engine/hardware/data/efficiency.toml to the rows marked fit, and to
no others. Held-out rows give the error statistics and the bands.
"""

from __future__ import annotations

import argparse
import json
import math
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from engine.hardware import efficiency
from engine.hardware.efficiency import UNKNOWN_BAND, Efficiency
from engine.hardware.gpus import gpu_of
from engine.hardware.networks import network
from engine.hardware.precisions import precision_named
from engine.hardware.roofline import Execution, seconds_of, timed

HERE = Path(__file__).parent
START = Efficiency(generation="", compute=0.6, conv=0.5, bandwidth=0.85, kernel_seconds=5e-6, band=1.25, fitted=())
FITTED = {
    "turing": ("compute", "bandwidth", "kernel_seconds"),
    "ampere": ("compute", "conv", "bandwidth", "kernel_seconds"),
    "ada": ("compute",),
    "hopper": ("compute", "conv"),
}
"""What the fit rows of a generation can tell; the rest is Ampere's, its convolutions keep Ampere's ratio to `compute`."""


@dataclass(frozen=True)
class Row:
    use: str
    device: str
    network: str
    precision: str
    batch: int
    sequence: int
    new_tokens: int
    metric: str
    value: float
    source: str
    note: str = ""

    @property
    def generation(self) -> str:
        return gpu_of(self.device).generation

    @property
    def published_seconds(self) -> float:
        """Of a call or, while decoding, of a token."""
        if self.metric == "latency_ms":
            return self.value / 1e3
        return (1 if self.metric == "tokens_per_s" else self.batch) / self.value

    def projected_seconds(self, reached: Efficiency) -> float:
        net = network(self.network, batch=self.batch, sequence=self.sequence, new_tokens=self.new_tokens)
        operators = net.decode if self.metric == "tokens_per_s" else net.forward
        return seconds_of(timed(operators, gpu_of(self.device), reached, precision_named(self.precision), Execution()))


def rows() -> list[Row]:
    return [Row(**row) for row in tomllib.loads((HERE / "gpu_rows.toml").read_text())["row"]]


def log_errors(some: Iterable[Row], reached: Efficiency) -> list[float]:
    """Of projected to published seconds; positive: projected too slow."""
    return [math.log(r.projected_seconds(reached) / r.published_seconds) for r in some]


def fit(all_rows: Sequence[Row]) -> dict[str, Efficiency]:
    found: dict[str, Efficiency] = {}
    for generation in ("ampere", *(g for g in FITTED if g != "ampere")):
        mine = [r for r in all_rows if r.use == "fit" and r.generation == generation]
        base = found.get("ampere", START)
        found[generation] = replace(_fitted(mine, base, FITTED[generation]), generation=generation)
    return found


def _fitted(mine: Sequence[Row], base: Efficiency, names: tuple[str, ...]) -> Efficiency:
    ratio = base.conv / base.compute

    def at(logs: Sequence[float]) -> Efficiency:
        values = {name: math.exp(value) for name, value in zip(names, logs, strict=True)}
        if "conv" not in names:
            values["conv"] = values["compute"] * ratio
        return replace(base, fitted=names, **values)  # type: ignore[arg-type]

    start = [math.log(getattr(base, name)) for name in names]
    upper = [math.log(1e-3 if name == "kernel_seconds" else 1.0) for name in names]
    solved = least_squares(
        lambda logs: log_errors(mine, at(logs)), np.minimum(start, upper), bounds=([-20] * len(names), upper)
    )
    return at(list(solved.x))


def write(found: dict[str, Efficiency], bands: dict[str, float]) -> None:
    lines = [
        "# Written by `python -m benchmarks.projection --fit`: shares of published peaks, fitted to the rows of",
        "# benchmarks/gpu_rows.toml marked fit. band: nine of ten held-out rows lie within this factor; other: assumed.",
    ]
    other = replace(found["ampere"], generation="other", fitted=())
    for each in (*found.values(), other):
        names = ", ".join(f'"{name}"' for name in each.fitted)
        lines += [
            "", f"[{each.generation}]", f"compute = {each.compute:.3f}", f"conv = {each.conv:.3f}",
            f"bandwidth = {each.bandwidth:.3f}", f"kernel_us = {each.kernel_seconds * 1e6:.2f}",
            f"band = {bands.get(each.generation, UNKNOWN_BAND):.2f}", f"fitted = [{names}]",
        ]  # fmt: skip
    efficiency.FILE.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--only-fit-rows", action="store_true", help="show no held-out row")
    options = parser.parse_args()
    everything = rows()
    found = fit(everything) if options.fit else {g: efficiency.efficiency_of(g) for g in FITTED}
    shown = [r for r in everything if r.use == "fit" or not options.only_fit_rows]
    table = [_line(r, found[r.generation]) for r in shown]
    for line in table:
        print(
            f"{line['use']:9} {line['device']:12} {line['network']:11} {line['precision']:17} b{line['batch']:<4}s{line['sequence']:<5}"
            f"{line['published']:10.3f} {line['projected']:10.3f} {line['metric']:14} {line['error']:+7.1%}"
        )
    for each in found.values():
        print(each)
    if options.only_fit_rows:
        return
    result = {"summary": summary(table), "rows": table}
    print(json.dumps(result["summary"], indent=1))
    if options.fit:
        write(found, {g: s["band"] for g, s in result["summary"]["held_out_by_generation"].items()})
    (HERE / "results" / "projection.json").write_text(json.dumps(result, indent=1) + "\n")


def _line(row: Row, reached: Efficiency) -> dict[str, Any]:
    """`error`: of the projected latency, relative to the published one."""
    ratio = row.projected_seconds(reached) / row.published_seconds
    projected = row.value * ratio if row.metric == "latency_ms" else row.value / ratio
    return {
        "use": row.use, "device": row.device, "network": row.network, "precision": row.precision, "batch": row.batch,
        "sequence": row.sequence, "new_tokens": row.new_tokens, "metric": row.metric, "published": row.value,
        "projected": round(projected, 4), "error": round(ratio - 1, 4), "source": row.source,
    }  # fmt: skip


def summary(table: Sequence[dict[str, Any]]) -> dict[str, Any]:
    held_out = [line for line in table if line["use"] == "held_out"]
    by_generation = {}
    for generation in FITTED:
        mine = [line for line in held_out if gpu_of(line["device"]).generation == generation]
        by_generation[generation] = _statistics(mine)
    return {
        "held_out": _statistics(held_out),
        "held_out_by_generation": by_generation,
        "fit": _statistics([x for x in table if x["use"] == "fit"]),
    }


def _statistics(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    errors = np.array([line["error"] for line in lines])
    away = np.abs(np.log1p(errors))
    return {
        "rows": len(lines), "within_25_percent": int((np.abs(errors) <= 0.25).sum()),
        "share_within_25_percent": round(float((np.abs(errors) <= 0.25).mean()), 3),
        "median_absolute_error": round(float(np.median(np.abs(errors))), 3),
        "band": round(float(np.exp(np.quantile(away, 0.9))), 2),
    }  # fmt: skip


if __name__ == "__main__":
    main()
