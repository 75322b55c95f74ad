"""How long storage takes to answer History at 100,000 runs.

    python -m benchmarks.history_100k [--runs 100000] [--home FOLDER] [--json benchmarks/results/history_100k.json]

Builds the history (kept when FOLDER already has one), then asks for a page of 100 rows
with its exact total for every filter under every sort, at the first page and in the
middle, in both directions, a few times each. Two clocks: `wall` is what a user waits
on this host, other load included; `cpu` is the answering thread's own time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

from benchmarks.filling import fill_history
from engine.domain.experiment import RunStatus
from engine.settings import Settings
from storage import RunFilter, Storage, open_storage

SORTS = (
    "created_at", "latency", "latency_p90", "throughput", "peak_memory", "size", "quality",
    "speedup", "speedup_low", "speedup_high", "verdict", "status", "runtime", "recipe",
)  # fmt: skip
PAGE = 100
_BUDGET = 50.0
_QUARTER = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Shape:
    """Milliseconds of all answers to one filter, over sorts, directions and pages."""

    filter: str
    runs: int
    answers: int
    wall_p50: float
    wall_p95: float
    wall_max: float
    cpu_p50: float
    cpu_p95: float
    cpu_max: float
    slowest: str


def filters(storage: Storage) -> dict[str, RunFilter]:
    """One of each kind, selective and not, and mixtures."""
    models = storage.artifacts.list(limit=100).items
    popular, rare = max(models, key=lambda m: m.runs).artifact.id, min(models, key=lambda m: m.runs).artifact.id
    middle = (
        storage.experiments.list(offset=storage.experiments.list(limit=1).total // 2, limit=1).items[0].experiment.id
    )
    succeeded = (RunStatus.SUCCEEDED,)
    good = {"quality": (0.99, None)}
    return {
        "none": RunFilter(),
        "model, popular": RunFilter(artifact_id=popular),
        "model, rare": RunFilter(artifact_id=rare),
        "experiment": RunFilter(experiment_id=middle),
        "technique": RunFilter(technique="pruning"),
        "runtime": RunFilter(runtime="openvino"),
        "status, most": RunFilter(statuses=succeeded),
        "status, few": RunFilter(statuses=(RunStatus.FAILED, RunStatus.CANCELLED)),
        "a quarter's dates": RunFilter(created_from=_QUARTER, created_to=_QUARTER + timedelta(days=91)),
        "tag": RunFilter(tag="nightly"),
        "quality >= 0.99": RunFilter(metric_ranges=good),
        "quality and latency": RunFilter(metric_ranges={**good, "latency": (None, 15.0)}),
        "speedup >= 6": RunFilter(metric_ranges={"speedup": (6.0, None)}),
        "technique, runtime, status, quality": RunFilter(
            technique="quantization", runtime="openvino", statuses=succeeded, metric_ranges=good
        ),
        "text, two thirds match": RunFilter(text="quantization"),
        "text, beginning of a word": RunFilter(text="q"),
        "text, phrase and model": RunFilter(text="sparsity=0.5 mini"),
        "text, few match": RunFilter(text="trial 47"),
        "text, none match": RunFilter(text="zebra"),
        "text, most match, status": RunFilter(text="quantization", statuses=succeeded),
        "text, model": RunFilter(text="nightly", artifact_id=popular),
        "text, tag, technique, quality": RunFilter(text="int4", tag="mei", technique="pruning", metric_ranges=good),
    }


def measure(storage: Storage, name: str, filter_: RunFilter, repeats: int) -> Shape:
    total = storage.runs.search(filter_, limit=1).total
    offsets = sorted({0, total // 2 // PAGE * PAGE})
    answers: list[tuple[float, float, str]] = []
    for sort, descending, offset in product(SORTS, (True, False), offsets):
        for _ in range(repeats):
            wall, cpu = time.perf_counter(), time.thread_time()
            page = storage.runs.search(filter_, sort, descending, offset, PAGE)
            cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
            assert page.total == total and len(page.items) == min(PAGE, total - offset)
            answers.append((wall * 1e3, cpu * 1e3, f"{sort} {'falling' if descending else 'rising'} from {offset}"))
    walls, cpus = [a[0] for a in answers], [a[1] for a in answers]
    slowest = max(answers, key=lambda a: a[1])[2]
    return Shape(name, total, len(answers), *_figures(walls), *_figures(cpus), slowest)


def _figures(milliseconds: list[float]) -> tuple[float, float, float]:
    p95 = statistics.quantiles(milliseconds, n=20, method="inclusive")[-1]
    return round(statistics.median(milliseconds), 2), round(p95, 2), round(max(milliseconds), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--home", type=Path, help="keep the history here, and use what is there")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = options.home or Path(scratch)
        storage = open_storage(Settings.from_environment({"SPEEDRAIL_HOME": str(home)}))
        began = time.perf_counter()
        stored = storage.runs.search(RunFilter(), limit=1).total
        if stored == 0:
            fill_history(storage, options.runs)
        built = time.perf_counter() - began
        shapes = [measure(storage, name, each, options.repeats) for name, each in filters(storage).items()]
        report = {
            "what": "milliseconds for one page of 100 rows and the exact total",
            "runs": storage.runs.search(RunFilter(), limit=1).total,
            "database_bytes": storage.space().database,
            "build_seconds": None if stored else round(built, 1),
            "host": {"cores": os.cpu_count(), "machine": platform.machine(), "load_1m": round(os.getloadavg()[0], 1)},
            "versions": {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version},
            "shapes": [asdict(s) for s in shapes],
        }
        storage.close()
    _show(shapes)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    slow = [s.filter for s in shapes if s.cpu_p95 >= _BUDGET]
    sys.exit(f"p95 over {_BUDGET:g} ms: {', '.join(slow)}" if slow else 0)


def _show(shapes: list[Shape]) -> None:
    print("| filter | runs found | wall p50 | wall p95 | cpu p50 | cpu p95 | cpu max | slowest |")
    print("|---|--:|--:|--:|--:|--:|--:|---|")
    for s in shapes:
        figures = " | ".join(f"{x:.1f}" for x in (s.wall_p50, s.wall_p95, s.cpu_p50, s.cpu_p95, s.cpu_max))
        print(f"| {s.filter} | {s.runs:,} | {figures} | {s.slowest} |")


if __name__ == "__main__":
    main()
