"""The projection's model held against this host: `python -m benchmarks.host_projection [--threads 1]`.

A processor is a device like another: its peaks and its bandwidth are those that `python -m engine calibrate` measures,
nothing is fitted (all shares are 1), and an operator that Python calls costs what calling the smallest one costs here.
Three models are then measured by the product itself, eager and on openvino in fp32, in the same minutes. Writes
results/host_projection.json and prints the table of docs/gpu.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.models import resnet18_digits
from engine.domain.calibration import Calibration
from engine.domain.codec import as_data, from_data
from engine.domain.workload import Workload
from engine.execution.tracing import trace
from engine.hardware.efficiency import Efficiency
from engine.hardware.entries import SourceStatus
from engine.hardware.gpus import Gpu
from engine.hardware.links import link_of
from engine.hardware.precisions import precision_named
from engine.hardware.projection import Projection, project
from engine.hardware.roofline import Execution
from engine.intake.places import samples
from engine.settings import Settings
from storage import open_storage

RESULT = Path(__file__).parent / "results" / "host_projection.json"
ROOT = Path(__file__).parents[1]
MODELS = {
    "minilm": ("MiniLM-L6, batch 1, 128 tokens", "batch_size=1,sequence_length=128,rounds=5", ("", "@openvino")),
    "resnet18": ("ResNet-18, batch 1, 64 px", "batch_size=1,rounds=5", ("", "@openvino")),
    "smollm2": ("SmolLM2-135M, 128 tokens + 16", "batch_size=1,sequence_length=128,new_tokens=16,warmup_calls=2,rounds=3", ("",)),
}
MEASURED = ("latency", "time_to_first_token", "time_per_output_token")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        settings = Settings.from_environment({"SPEEDRAIL_HOME": str(place)})
        calibration = from_data(Calibration, _engine(place, "calibrate"))
        dispatch = _dispatch_seconds(threads)
        rows = [row for name in MODELS for row in _rows(name, settings, calibration, dispatch, threads)]
    result = {"calibration": as_data(calibration), "threads": threads, "dispatch_seconds": dispatch, "rows": rows}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        print(f"| {row['model']} | {row['runtime']} | {row['metric']} | {row['measured_ms']:.4g} | {row['projected_ms']:.4g} | {row['error']:+.0%} |")


def _rows(name: str, settings: Settings, calibration: Calibration, dispatch: float, threads: int) -> list[dict[str, Any]]:
    title, words, recipes = MODELS[name]
    words = f"{words},threads={threads}"
    model = _model(name, settings.home)
    asked = [argument for recipe in recipes if recipe for argument in ("--recipe", recipe)]
    measured = _engine(settings.home, "run", str(model), "--workload", words, "--save", "--name", name, *asked)
    storage = open_storage(settings)
    artifact = storage.artifacts.get(measured["artifact"]["id"])
    network = trace(artifact, Workload.parse_words(words), storage, settings, lambda holder: None)
    found = []
    for run in measured["runs"]:
        eager = not run["recipe"]
        projected = project(
            network, _device(calibration, threads), precision_named("fp32"), Execution(fused=not eager, graphs=True),
            _as_measured(dispatch if eager else 0.0),
        )  # fmt: skip
        for measurement in run["measurements"]:
            if measurement["name"] in MEASURED:
                seconds = _projected(projected, measurement["name"])
                found.append(
                    {
                        "model": title, "runtime": "eager" if eager else run["runtime"], "metric": measurement["name"],
                        "measured_ms": measurement["median"], "samples": measurement["samples"], "projected_ms": seconds * 1e3,
                        "error": seconds * 1e3 / measurement["median"] - 1,
                    }
                )  # fmt: skip
    return found


def _projected(projected: Projection, metric: str) -> float:
    seconds = {"latency": projected.latency, "time_to_first_token": projected.first_token, "time_per_output_token": projected.per_token}[metric]
    assert seconds is not None
    return seconds


def _device(calibration: Calibration, threads: int) -> Gpu:
    """The processor as an entry of the catalogue; its memory and power are not asked for."""
    bandwidth = calibration.bandwidth(threads)
    assert bandwidth
    peaks = {str(p.precision): p.per_second for p in calibration.peaks if p.threads == threads}
    return Gpu(
        id="host", name=calibration.environment.cpu, vendor="", generation="host", use="host", memory_bytes=calibration.environment.memory_bytes,
        bandwidth=bandwidth, power_watts=0.0, launch_seconds=0.0, peaks=peaks, source="python -m engine calibrate",
        status=SourceStatus.VERIFIED, link=None, host_link=link_of("unified"), unified_memory=True,
    )  # fmt: skip


def _as_measured(dispatch: float) -> Efficiency:
    """Ceilings that were measured are reached whole; `dispatch` from one operator to the next."""
    return Efficiency(generation="host", compute=1.0, conv=1.0, bandwidth=1.0, kernel_seconds=dispatch, band=1.0, fitted=())


def _dispatch_seconds(threads: int) -> float:
    """Of a module whose arithmetic is nothing: the fastest of many batches of calls."""
    torch.set_num_threads(threads)
    smallest, calls = torch.nn.ReLU(), 1000
    one = torch.ones(1)
    with torch.inference_mode():
        batches = []
        for _ in range(50):
            began = time.perf_counter()
            for _ in range(calls):
                smallest(one)
            batches.append((time.perf_counter() - began) / calls)
    return statistics.median(batches)


def _model(name: str, place: Path) -> Path:
    if name == "resnet18":
        return resnet18_digits(place / "digits", epochs=1).model
    return next(sample.path for sample in samples() if sample.id == name)


def _engine(home: Path, *arguments: str) -> Any:
    """What a command of the product writes as JSON, over a home of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        subprocess.run(
            [sys.executable, "-m", "engine", *arguments, "--json", str(out)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
            env={**os.environ, "SPEEDRAIL_HOME": str(home)},
        )  # fmt: skip
        return json.loads(out.read_text())


if __name__ == "__main__":
    main()
