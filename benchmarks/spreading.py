"""What spreading costs and brings on one small host: pipeline, tensor and replicas over one process.

    python -m benchmarks.spreading [--only minilm resnet18 smollm2] [--rounds 6]

Each family is an experiment of the product itself (`python -m engine run`): interleaved rounds,
fresh sandboxed processes, answers held against one process before anything is timed. Predicted
before the first measurement, on 2 cores: pipeline and tensor 0.3–0.95×, replicas 1.1–1.5× on batches.
Writes results/spreading.json and prints the table of benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import RESULTS, ROOT, median, model_of

PIPELINE = "model_parallelism(kind=pipeline, degree=2)"
TENSOR = "model_parallelism(kind=tensor, degree=2)"
REPLICAS = "distributed(replicas=2)"
SHOWN = ("stage_balance", "bubble_share", "communication_share", "sent_bytes", "max_abs_difference", "scaling_efficiency")


@dataclass(frozen=True, slots=True)
class Case:
    """One experiment. threads: of the baseline; each worker gets its share of them, one at least, and a core."""

    name: str
    model: str
    recipes: tuple[str, ...]
    workload: str
    threads: int


CASES = (
    Case("minilm b8", "minilm", (PIPELINE, TENSOR, REPLICAS), "batch_size=8,sequence_length=128", 2),
    Case("minilm b8, baseline on one thread", "minilm", (REPLICAS,), "batch_size=8,sequence_length=128", 1),
    Case("resnet18 b16", "resnet18", (PIPELINE, REPLICAS), "batch_size=16", 2),
    Case("resnet18 b16, baseline on one thread", "resnet18", (REPLICAS,), "batch_size=16", 1),
    Case("smollm2 b2", "smollm2", (PIPELINE, TENSOR, REPLICAS), "batch_size=2,sequence_length=64,new_tokens=16,warmup_calls=2", 2),
    Case("smollm2 b2, baseline on one thread", "smollm2", (REPLICAS,), "batch_size=2,sequence_length=64,new_tokens=16,warmup_calls=2", 1),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[""], help="words of the cases' names")
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    out = RESULTS / "spreading.json"
    results: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        chosen = [case for case in CASES if any(word in case.name for word in options.only)]
        models = {name: model_of(name, Path(scratch)) for name in sorted({case.model for case in chosen})}
        for case in chosen:
            results[case.name] = measure(case, models[case.model], options.rounds, Path(scratch))
            out.write_text(json.dumps(results, indent=1) + "\n")
    print("| case | recipe | speedup | 95 % interval | balance | bubble | communication | sent, kB | largest difference |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    for name, runs in results.items():
        for run in runs:
            print(row(name, run))


def measure(case: Case, model: tuple[Path, dict[str, Path]], rounds: int, scratch: Path) -> list[dict[str, Any]]:
    """What is worth keeping of each run."""
    answer = scratch / "answer.json"
    path, data = model
    words = f"{case.workload},threads={case.threads},rounds={rounds},round_seconds=0.5"
    command = [sys.executable, "-m", "engine", "run", str(path), "--name", case.name, "--workload", words, "--json", str(answer)]
    for recipe in case.recipes:
        command += ["--recipe", recipe]
    for option, file in data.items():
        command += [option, str(file)]
    subprocess.run(command, cwd=ROOT, check=False)
    return [_kept(run) for run in json.loads(answer.read_text())["runs"]]


def _kept(run: dict[str, Any]) -> dict[str, Any]:
    facts = {name: value for stage in run["facts"] for name, value in stage["facts"].items() if name in SHOWN}
    return {
        "recipe": run["recipe"], "status": run["status"], "latency_ms": median(run, "latency"),
        "peak_memory": median(run, "peak_memory"), "speedup": run["speedup"], "verdict": run["verdict"], "facts": facts,
        "remarks": run["remarks"], "problems": run["problems"],
    }  # fmt: skip


def row(name: str, run: dict[str, Any]) -> str:
    speedup, facts = run["speedup"], run["facts"]
    ratio = f"{speedup['median']:.2f} | {speedup['ci95'][0]:.2f}–{speedup['ci95'][1]:.2f}" if speedup else " | "
    shares = " | ".join(f"{facts[n]:.2f}" if n in facts else "" for n in SHOWN[:3])
    sent = f"{facts['sent_bytes'] / 1e3:.0f}" if "sent_bytes" in facts else ""
    difference = f"{facts['max_abs_difference']:.1g}" if "max_abs_difference" in facts else ""
    return f"| {name} | `{run['recipe'] or 'baseline'}` | {ratio} | {shares} | {sent} | {difference} |"


if __name__ == "__main__":
    main()
