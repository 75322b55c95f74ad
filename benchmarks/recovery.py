"""What training brings back: quality against training time, and the fastest student within the guard-rail.

    python -m benchmarks.recovery [--only minilm resnet18] [--minutes 30] [--threads 1]

Each family is one experiment of the product itself, kept in SPEEDRAIL_HOME: a second call finds the students
that were trained there. Writes results/recovery_<family>.json with each training's curve and prints a table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.figures import RESULTS, ROOT, median, model_of
from engine.domain.experiment import LOSS_CURVE
from engine.settings import Settings
from storage import open_storage

INT8 = "quantization(format=int8)"
WORKLOADS = {"minilm": "batch_size=1,sequence_length=128", "resnet18": "batch_size=1"}


def recipes(family: str, minutes: float) -> list[str]:
    """Cut without and with training, and the trained ones with int8 on the runtime that is best at it."""
    if family == "minilm":
        students = [f"pruning(sparsity=0.3, recover=true, minutes={minutes})", f"distillation(layers=0.84, width=0.8, minutes={minutes})"]
        alone = [f"{INT8}@openvino", "pruning(sparsity=0.3)@openvino", f"pruning(sparsity=0.3)+{INT8}@openvino"]
    else:
        students = [f"pruning(sparsity=0.5, recover=true, minutes={minutes})"]
        alone = [f"{INT8}@openvino", "pruning(sparsity=0.5)@openvino"]
    return [*alone, *(f"{student}{more}" for student in students for more in ("@openvino", f"+{INT8}@openvino"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(WORKLOADS))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="where a trained resnet18 lies or is put; a temporary one otherwise")
    options = parser.parse_args()
    for family in options.only:
        with tempfile.TemporaryDirectory() as scratch:
            workload = f"{WORKLOADS[family]},threads={options.threads},rounds={options.rounds}"
            result = measure(family, workload, recipes(family, options.minutes), options.folder or Path(scratch))
        (RESULTS / f"recovery_{family}.json").write_text(json.dumps(result, indent=1) + "\n")
        report(family, result)


def measure(family: str, workload: str, wanted: list[str], folder: Path) -> dict[str, Any]:
    """The experiment as the command line tells it, each run with its training curves."""
    model, data = model_of(family, folder)
    out = folder / "out.json"
    command = [sys.executable, "-m", "engine", "run", str(model), "--save", "--name", f"recovery {family}", "--workload", workload, "--json", str(out)]
    for recipe in wanted:
        command += ["--recipe", recipe]
    for option, path in data.items():
        command += [option, str(path)]
    subprocess.run(command, cwd=ROOT, check=True)
    result: dict[str, Any] = json.loads(out.read_text())
    storage = open_storage(Settings.from_environment())
    for run in result["runs"]:
        run["loss_curve"] = storage.runs.attachments(run["id"]).get(LOSS_CURVE, [])
    storage.close()
    return result


def report(family: str, result: dict[str, Any]) -> None:
    """Speedups and quality of each run, then the curve of each training."""
    print(f"\n### {family}\n\n| recipe | latency speedup | quality | latency, ms | parameters |\n|---|--:|--:|--:|--:|")
    latency = median(next(r for r in result["runs"] if not r["recipe"]), "latency") or 0.0
    for run in result["runs"]:
        value, quality = median(run, "latency"), median(run, "quality")
        if value is None or quality is None:
            print(f"| `{run['recipe']}` | {run['status']} | | | |")
            continue
        left = next((f["facts"]["parameters_after"] for f in reversed(run["facts"]) if "parameters_after" in f["facts"]), "")
        print(f"| `{run['recipe'] or 'baseline'}` | {latency / value:.2f} | {quality:.4f} | {value:.3g} | {left} |")
    for run in result["runs"]:
        for curve in run["loss_curve"] if run["recipe"].count("+") == 0 else []:
            print(f"\n`{run['recipe']}`\n\n| minutes | processor minutes | step | held-out {curve['metric']} |\n|--:|--:|--:|--:|")
            for point in curve["points"]:
                print(f"| {point['seconds'] / 60:.1f} | {point['cpu_seconds'] / 60:.1f} | {point['step']} | {point['quality']:.4f} |")


if __name__ == "__main__":
    main()
