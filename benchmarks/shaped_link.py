"""The projection over several hosts held against shaped links: `python -m benchmarks.shaped_link`.

Two ranks of one thread each, pinned to a core each, in two network namespaces of this machine; between them a link of known
bandwidth and latency (`tc tbf`, a TAP relay). What one process takes is measured in turns with them; what two take is
projected from that and the link's two figures by engine.hardware.spreading, as `engine project --measured-ms` does.
Needs root and two cores. Writes results/shaped_link.json and prints the table of benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.figures import RESULTS, ROOT, model_of
from benchmarks.host_projection import measured_device, on_this_host
from engine.cli.intake import take_in_path
from engine.domain.codec import as_data
from engine.domain.workload import Workload
from engine.execution.tracing import trace
from engine.hardware.links import Link, link_of
from engine.hardware.operators import Network
from engine.hardware.projection import Projection
from engine.hardware.spreading import Degrees, spread
from engine.host import environment
from engine.settings import Settings
from storage import open_storage
from tests.engine.two_hosts import Host, two_hosts

TENSOR = "model_parallelism(kind=tensor, degree=2)"
PIPELINE = "model_parallelism(kind=pipeline, degree=2, microbatches=1)"
CUT = {TENSOR: Degrees(tensor=2), PIPELINE: Degrees(pipeline=2)}
PORT = 29511


@dataclass(frozen=True, slots=True)
class Case:
    """A model and workload over a link. seconds: latency one way."""

    model: str
    workload: str
    recipes: tuple[str, ...]
    mbit: int
    seconds: float = 0.0

    @property
    def link(self) -> Link:
        return replace(link_of("ethernet-1g"), bandwidth=self.mbit * 1e6 / 8, latency=self.seconds)


MINILM = ("minilm", "batch_size=8,sequence_length=128", (TENSOR, PIPELINE))
SMOLLM = ("smollm2", "batch_size=2,sequence_length=64,new_tokens=1", (PIPELINE,))
CASES = (
    Case(*MINILM, 1000), Case(*MINILM, 1000, 0.0005), Case(*MINILM, 1000, 0.002), Case(*MINILM, 1000, 0.005),
    Case(*MINILM, 300), Case(*MINILM, 300, 0.002),
    Case(*SMOLLM, 1000, 0.0005),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--only", type=int, default=len(CASES), help="so many of the cases, as a trial: writes nothing")
    options = parser.parse_args()
    device, dispatch = measured_device()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        known = {model: taken_in(model, workload, Path(scratch)) for model, workload, _ in (MINILM, SMOLLM)}
        for case in CASES[: options.only]:
            path, network = known[case.model]
            single = on_this_host(network, device, dispatch)
            for found in measure(case, path, options.calls):
                rows.append(row(case, found, network, single))
                print(line(rows[-1]), flush=True)
    if options.only < len(CASES):
        return
    (RESULTS / "shaped_link.json").write_text(json.dumps({"environment": as_data(environment(1, "none")), "rows": rows}, indent=1) + "\n")


def taken_in(model: str, workload: str, scratch: Path) -> tuple[Path, Network]:
    """Its files as every host has them, and its operators."""
    settings = Settings.from_environment({"SPEEDRAIL_HOME": str(scratch / model)})
    storage = open_storage(settings)
    artifact = take_in_path(model_of(model, scratch)[0], "", storage, settings)
    network = trace(artifact, Workload.parse_words(workload), storage, settings, lambda holder: None)
    return storage.files.local_path(artifact.id), network


def measure(case: Case, model: Path, calls: int) -> list[dict[str, Any]]:
    """What the rank program printed, for each recipe."""
    program = ["-m", "engine.executors.spread.launched", str(model), "--workload", case.workload, "--calls", str(calls)]
    program += [word for recipe in case.recipes for word in ("--recipe", recipe)]
    with two_hosts("srb", mbit=case.mbit, latency=case.seconds, mtu=9000, burst="32kb") as hosts:
        started = [_started(host, rank, hosts[0].address, program) for rank, host in enumerate(hosts)]
        said = [process.communicate(timeout=400) for process in started]
    if any(process.returncode for process in started):
        raise SystemExit("".join(errors for _, errors in said)[-2000:])
    return [json.loads(line) for output, _ in said for line in output.splitlines() if line.startswith("{")]


def _started(host: Host, rank: int, address: str, program: list[str]) -> subprocess.Popen[str]:
    words = {"MASTER_ADDR": address, "MASTER_PORT": str(PORT), "RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    return host.start(["taskset", "-c", str(rank), sys.executable, "-W", "ignore", *program], words, cwd=ROOT)


def row(case: Case, found: dict[str, Any], network: Network, single: Projection) -> dict[str, Any]:
    alone, degrees = found["one_process_ms"], CUT[found["recipe"]]
    expected = spread(network, single, degrees, case.link, measured=alone / 1e3)
    return {
        "model": case.model, "workload": case.workload, "recipe": found["recipe"], "mbit": case.mbit, "latency_ms": case.seconds * 1e3,
        "one_process_ms": alone, "measured_ms": found["latency_ms"], "projected_ms": expected.latency * 1e3,
        "error": expected.latency * 1e3 / found["latency_ms"] - 1, "communication": expected.communication,
        "samples_ms": found["samples_ms"], "one_process_samples_ms": found["one_process_samples_ms"], "load": os.getloadavg()[0],
    }  # fmt: skip


def line(row: dict[str, Any]) -> str:
    kind = "tensor" if row["recipe"] == TENSOR else "pipeline"
    link = f"{row['mbit']} Mbit/s, {row['latency_ms']:g} ms"
    return (
        f"| {row['model']}, {row['workload']} | {kind} | {link} | {row['one_process_ms']:.0f} | {row['measured_ms']:.0f} | "
        f"{row['projected_ms']:.0f} | {row['error']:+.0%} |"
    )


if __name__ == "__main__":
    main()
