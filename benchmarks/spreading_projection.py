"""The projection over several devices against published latencies: `python -m benchmarks.spreading_projection [--fit]`.

Without `--fit`: projects every row of spreading_rows.toml and writes results/spreading_projection.json. With it: first
fits γ and κ (engine/hardware/data/spreading.toml) to the rows marked fit, and to no others. Held-out rows give the errors
and the band.
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

from engine.hardware import spreading
from engine.hardware.gpus import gpu_of
from engine.hardware.links import link_of
from engine.hardware.networks import network
from engine.hardware.precisions import precision_named
from engine.hardware.projection import project
from engine.hardware.spreading import Constants, Degrees, Spread, constants, spread

HERE = Path(__file__).parent
START = Constants(fixed=1e-3, moving=1.5, stepping=2.0, band=1.6)
"""moving: NVIDIA/nccl-tests issues 149 and 178, 200 to 208 GB/s of bus bandwidth on A100s whose links have 300."""
NAMES = ("fixed", "stepping")


@dataclass(frozen=True, slots=True)
class Row:
    use: str
    network: str
    device: str
    link: str
    precision: str
    metric: str
    source: str
    batch: int
    prompt: int
    new_tokens: int
    degrees: Degrees
    published_ms: float
    single_ms: float
    """Published for one device; 0: nobody did, and that is projected too."""

    def projected(self, fitted: Constants) -> Spread:
        net = network(self.network, batch=self.batch, sequence=self.prompt, new_tokens=self.new_tokens)
        single = project(net, gpu_of(self.device), precision_named(self.precision))
        return spread(net, single, self.degrees, link_of(self.link), measured=self.single_ms / 1e3, fitted=fitted)

    def projected_ms(self, fitted: Constants) -> float:
        found = self.projected(fitted)
        seconds = found.per_token if self.metric == "per_token" else found.latency
        assert seconds is not None
        return seconds * 1e3


def rows() -> list[Row]:
    return [
        Row(
            table["use"], table["network"], table["device"], table["link"], table["precision"], table.get("metric", "call"),
            table["source"], batch, prompt, new_tokens, Degrees(tensor=tensor, pipeline=pipeline), value, *alone, *(() if alone else (0.0,)),
        )
        for table in tomllib.loads((HERE / "spreading_rows.toml").read_text())["table"]
        for batch, prompt, new_tokens, tensor, pipeline, value, *alone in table["rows"]
    ]  # fmt: skip


def log_errors(some: Iterable[Row], fitted: Constants) -> list[float]:
    """Of projected to published time; positive: projected too slow."""
    return [math.log(row.projected_ms(fitted) / row.published_ms) for row in some]


def fit(some: Sequence[Row]) -> Constants:
    def at(logs: Sequence[float]) -> Constants:
        return replace(START, **{name: math.exp(value) for name, value in zip(NAMES, logs, strict=True)})

    solved = least_squares(lambda logs: log_errors(some, at(logs)), [math.log(getattr(START, name)) for name in NAMES])
    return at(list(solved.x))


def write(found: Constants) -> None:
    head = spreading.FILE.read_text().partition("[tensor]")[0]
    spreading.FILE.write_text(
        f"{head}[tensor]\nfixed_us = {found.fixed * 1e6:.1f}\nmoving = {found.moving:.2f}\nstepping = {found.stepping:.2f}\n"
        f"band = {found.band:.2f}\n"
    )


def line(row: Row, fitted: Constants) -> dict[str, Any]:
    """`error`: of the projected latency, relative to the published one."""
    projected = row.projected_ms(fitted)
    return {
        "use": row.use, "network": row.network, "device": row.device, "link": row.link, "precision": row.precision,
        "metric": row.metric, "batch": row.batch, "prompt": row.prompt, "new_tokens": row.new_tokens,
        "tensor": row.degrees.tensor, "pipeline": row.degrees.pipeline, "published_ms": row.published_ms, "single_ms": row.single_ms,
        "projected_ms": round(projected, 2), "error": round(projected / row.published_ms - 1, 4), "source": row.source,
    }  # fmt: skip


def statistics(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    errors = np.array([each["error"] for each in lines])
    return {
        "rows": len(lines), "within_15_percent": int((np.abs(errors) <= 0.15).sum()),
        "median_absolute_error": round(float(np.median(np.abs(errors))), 3),
        "band": round(float(np.exp(np.quantile(np.abs(np.log1p(errors)), 0.9))), 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--only-fit-rows", action="store_true", help="show no held-out row")
    options = parser.parse_args()
    everything = rows()
    found = fit([row for row in everything if row.use == "fit"]) if options.fit else constants()
    table = [line(row, found) for row in everything if row.use == "fit" or not options.only_fit_rows]
    for each in table:
        print(
            f"{each['use']:9} {each['device']:8} {each['network']:13} b{each['batch']:<4}{each['prompt']:5} + {each['new_tokens']:<4}"
            f"tp{each['tensor']:<3}pp{each['pipeline']:<3}{each['published_ms']:10.1f} {each['projected_ms']:10.1f} {each['error']:+7.1%}"
        )
    print(found)
    if options.only_fit_rows:
        return
    held_out = [each for each in table if each["use"] == "held_out"]
    # several devices: one alone is the other projection's matter
    result = {
        "summary": {
            "held_out": statistics([each for each in held_out if each["tensor"] * each["pipeline"] > 1]),
            "fit": statistics([each for each in table if each["use"] == "fit"]),
        },
        "rows": table,
    }
    print(json.dumps(result["summary"], indent=1))
    if options.fit:
        write(replace(found, band=result["summary"]["held_out"]["band"]))
    (HERE / "results" / "spreading_projection.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
