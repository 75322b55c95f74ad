"""The projection's model held against this host: `python -m benchmarks.host_projection`.

A processor is a device like another: one thread's peak and its reading of memory are what `engine calibrate` measures,
nothing is fitted (all shares are 1), and an operator that Python calls costs what calling the smallest one costs. What it is held against
are the product's own fp32 latencies of three models in results/figures_<family>.json, so run it on the machine that
`python -m benchmarks.figures` ran on. Ceilings are taken in processor time, because neighbours on the machine would
lower those of the clock on the wall. Writes results/host_projection.json and prints the table of docs/gpu.md.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.models import untrained_resnet
from engine.cli.intake import take_in_path
from engine.domain.calibration import Precision
from engine.domain.codec import as_data
from engine.domain.workload import Workload
from engine.execution.tracing import trace
from engine.hardware.efficiency import Efficiency
from engine.hardware.entries import SourceStatus
from engine.hardware.gpus import Gpu
from engine.hardware.links import link_of
from engine.hardware.operators import Network
from engine.hardware.precisions import precision_named
from engine.hardware.projection import Projection, project
from engine.hardware.roofline import Execution
from engine.host import environment, this_host
from engine.intake.places import samples
from engine.measure.ceilings import ceilings, fastest
from engine.requests import CeilingsRequest
from engine.settings import Settings
from storage import open_storage

RESULTS = Path(__file__).parent / "results"
TITLES = {"minilm": "MiniLM-L6, batch 1, 128 tokens", "resnet18": "ResNet-18, batch 1, 64 px", "smollm2": "SmolLM2-135M, 128 tokens + 32"}
RECIPES = {"": "eager", "@openvino": "openvino"}
"""Those in fp32; a compiler's program is assumed to call nothing from Python."""
METRICS = ("latency", "time_to_first_token", "time_per_output_token")
_SECONDS = 5.0


def main() -> None:
    device, dispatch = measured_device()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, title in TITLES.items():
            figures = json.loads((RESULTS / f"figures_{name}.json").read_text())
            network = _network(name, Workload(**{k: figures["workload"][k] for k in ("batch_size", "sequence_length", "new_tokens")}), Path(scratch))
            for run in figures["runs"]:
                if run["recipe"] in RECIPES:
                    rows += _rows(title, run, on_this_host(network, device, dispatch if not run["recipe"] else 0.0))
    result = {
        "environment": as_data(environment(1, "none")), "peak_fp32": device.peaks["fp32"], "read_bytes_per_second": device.bandwidth,
        "dispatch_seconds": dispatch, "rows": rows,
    }  # fmt: skip
    (RESULTS / "host_projection.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"peak {device.peaks['fp32'] / 1e9:.0f} GFLOP/s, memory {device.bandwidth / 1e9:.1f} GB/s, {dispatch * 1e6:.1f} µs an operator")
    for row in rows:
        print(f"| {row['model']} | {row['runtime']} | {row['metric'].replace('_', ' ')} | {row['measured_ms']:.4g} | {row['projected_ms']:.4g} | {row['error']:+.0%} |")


def _rows(title: str, run: dict[str, Any], projected: Projection) -> list[dict[str, Any]]:
    seconds = {"latency": projected.latency, "time_to_first_token": projected.first_token, "time_per_output_token": projected.per_token}
    return [
        {
            "model": title, "runtime": RECIPES[run["recipe"]], "metric": m["name"], "measured_ms": m["median"], "samples": m["samples"],
            "noisy": bool(run["noisy"]), "projected_ms": expected * 1e3, "error": expected * 1e3 / m["median"] - 1,
        }
        for m in run["measurements"] if m["name"] in METRICS and (expected := seconds[m["name"]]) is not None
    ]  # fmt: skip


def measured_device() -> tuple[Gpu, float]:
    """One thread of this host, and seconds that Python's call of an operator takes."""
    found = ceilings(CeilingsRequest((1,), (Precision.FP32,), _SECONDS), time.thread_time)
    peak, bandwidth, dispatch = found.peaks[0].per_second, found.bandwidths[0].bytes_per_second, _dispatch()
    device = Gpu(
        id="host", name=this_host().cpu, vendor="", generation="host", use="host", memory_bytes=this_host().memory_bytes,
        bandwidth=bandwidth, power_watts=0.0, launch_seconds=0.0, peaks={"fp32": peak}, source="measured here",
        status=SourceStatus.VERIFIED, link=None, host_link=link_of("unified"), unified_memory=True,
    )  # fmt: skip
    return device, dispatch


def on_this_host(network: Network, device: Gpu, dispatch: float) -> Projection:
    """Ceilings that were measured are reached whole. dispatch: seconds, 0 where a compiler's program calls nothing from Python."""
    reached = Efficiency(generation="host", compute=1.0, conv=1.0, bandwidth=1.0, kernel_seconds=dispatch, band=1.0, fitted=())
    return project(network, device, precision_named("fp32"), Execution(fused=not dispatch, graphs=True), reached)


def _network(name: str, workload: Workload, scratch: Path) -> Network:
    home = scratch / name
    settings = Settings.from_environment({"SPEEDRAIL_HOME": str(home)})
    storage = open_storage(settings)
    if name == "resnet18":
        untrained_resnet(home / "model").save_pretrained(home / "model")
        path = home / "model"
    else:
        path = next(sample.path for sample in samples() if sample.id == name)
    artifact = take_in_path(path, "", storage, settings)
    return trace(artifact, workload, storage, settings, lambda holder: None)


def _dispatch() -> float:
    """Of a module whose arithmetic is nothing."""
    smallest, one, calls = torch.nn.ReLU(), torch.ones(1), 200
    with torch.inference_mode():
        return fastest(lambda: [smallest(one) for _ in range(calls)], _SECONDS, time.thread_time) / calls


if __name__ == "__main__":
    main()
