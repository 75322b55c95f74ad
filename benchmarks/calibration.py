"""How often the verdict is wrong: A against A, and a true slowdown of 5 %.

    python -m benchmarks.calibration measure --condition quiet --same 4 --slowed 12 --place FOLDER
    python -m benchmarks.calibration report

Each `measure` adds one series to benchmarks/results/calibration.json: the baseline, its partner,
so many further runs of the same model and so many that are slowed by work injected into every call,
at the default budget (10 rounds of 1 s, shared by as many fresh processes of each as the product chooses), through the product's own
Series. Every comparison is with the series' one baseline, so those of a series are not
independent; the number of series stands beside. `report` judges the stored rounds by the product's
own verdict and gives exact binomial (Clopper–Pearson) bounds at 95 %.

Conditions: `quiet` (nothing else was asked of the machine), `shared` (others were at work on it), `neighbour`
(a process of ours multiplied matrices all the time: on two cores, the other core).
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from benchmarks.overhead import card_of, model_directory, start
from engine.compare.speedup import Speedup, speedup_of
from engine.domain.artifact import ModelCard
from engine.domain.codec import as_data, from_data
from engine.domain.deployment import Lowered
from engine.domain.experiment import Round
from engine.domain.layout import Workers
from engine.domain.metrics import LATENCY, Verdict
from engine.domain.noise import SeriesNoise
from engine.domain.workload import Workload
from engine.execution.judging import PARTNER, pinned_cores
from engine.host import environment, this_host
from engine.measure.block import Block, Candidate
from engine.measure.series import Series
from engine.requests import OpenRequest, TransformRequest, TransformResult
from engine.sandbox import Child, Limits, start_child

RESULTS = Path(__file__).parent / "results" / "calibration.json"
RECIPE = "@onnxruntime"
BASELINE, SAME, SLOWED = "baseline", "same", "slowed"
_NEIGHBOUR = """
import os, numpy
matrix = numpy.random.default_rng(0).random((700, 700))
while os.getppid() == int(os.environ["PARENT"]):
    matrix @ matrix
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measure = commands.add_parser("measure")
    measure.add_argument("--condition", choices=("quiet", "shared", "neighbour"), required=True)
    measure.add_argument("--same", type=int, default=4)
    measure.add_argument("--slowed", type=int, default=12)
    measure.add_argument("--tokens", type=int, default=128, help="128 is the default workload; at 8 the memory decides, and processes differ most")
    measure.add_argument("--threads", type=int, default=1)
    measure.add_argument("--place", type=Path, required=True, help="keeps the lowered model from chunk to chunk")
    measure.add_argument("--results", type=Path, default=RESULTS)
    report = commands.add_parser("report")
    report.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.command == "measure":
        _append(args.results, _series(args))
    print(_report(_read(args.results)))
    return 0


def _series(args: argparse.Namespace) -> dict[str, Any]:
    """Measure one series."""
    began = time.monotonic()
    workload = Workload(threads=args.threads, sequence_length=args.tokens)
    card, lowered = _lowered(args.place / str(args.tokens), workload)
    with tempfile.TemporaryDirectory() as folder:
        make = partial(_candidate, Path(folder), card, lowered, workload)
        names = [f"{kind}-{i}" for kind, count in ((SAME, args.same), (SLOWED, args.slowed)) for i in range(count)]
        series = Series(
            0,
            [make(BASELINE), *map(make, names)],
            workload.rounds,
            partial(Block, shadows=[make(PARTNER)], start=_start, limits=Limits.of_host()),
        )
        with _neighbour(args.condition == "neighbour"), series:
            rounds = [turn for turns in series.rounds() for turn in turns]
            if series.postponed or series.failures:
                raise SystemExit(f"Not all took part: {series.postponed} {series.failures}")
        rounds += series.shadow_rounds[PARTNER]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "condition": args.condition,
        "recipe": RECIPE, "tokens": args.tokens, "threads": args.threads,
        "seconds": round(time.monotonic() - began), "load_average": os.getloadavg()[0],
        "environment": as_data(environment(args.threads, "full")),
        "noise": as_data(series.noise),
        "medians_ms": {name: _medians([r for r in rounds if r.run_id == name]) for name in (BASELINE, PARTNER, *names)},
    }  # fmt: skip


def _medians(rounds: Sequence[Round]) -> list[list[float]]:
    """Of each round, by block: all that verdicts are made of."""
    blocks = [[r for r in rounds if r.block == index] for index in sorted({r.block for r in rounds})]
    return [[round(float(np.median(r.samples[LATENCY.name])), 5) for r in block] for block in blocks]


def _candidate(folder: Path, card: ModelCard, lowered: Lowered, workload: Workload, name: str) -> Candidate:
    scratch = folder / name
    scratch.mkdir()
    model = model_directory()
    request = OpenRequest(
        lowered, str(model), card, workload, "", workload.threads, str(scratch), pinned=pinned_cores(workload.threads)
    )
    return Candidate(name, request, (model, Path(lowered.directory)), folder / f"{name}.log")


def _start(kind: str, *, log: Path, workers: Workers, opened: Sequence[Path], **rest: Any) -> Child:
    assert workers.count == 1, f"{opened} is one model in one process"
    module = "benchmarks.slowed_child" if log.stem.startswith(SLOWED) else "engine.child"
    return start_child(kind, log=log, module=module, **rest)


def _lowered(place: Path, workload: Workload) -> tuple[ModelCard, Lowered]:
    """MiniLM lowered once, with its card; found again in `place`."""
    kept = place / "lowered.pickle"
    if not kept.exists():
        output = place / "output"
        output.mkdir(parents=True)
        card = card_of(place)
        request = TransformRequest(str(model_directory()), card, RECIPE, workload, "", str(output), this_host(), 1)
        with start("transform", [model_directory()], output, place, workload) as child:
            answer = child.ask({"request": as_data(request)}, timeout=1200)
        kept.write_bytes(pickle.dumps((card, from_data(TransformResult, answer).lowered)))
    found: tuple[ModelCard, Lowered] = pickle.loads(kept.read_bytes())
    return found


@contextmanager
def _neighbour(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PARENT": str(os.getpid())}
    with subprocess.Popen([sys.executable, "-c", _NEIGHBOUR], env=os.environ | one_thread) as process:
        try:
            yield
        finally:
            process.kill()


def _read(path: Path) -> list[dict[str, Any]]:
    stored: list[dict[str, Any]] = json.loads(path.read_text())["series"] if path.exists() else []
    return stored


def _append(path: Path, series: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"series": [*_read(path), series]}, indent=1) + "\n")


def judge(series: dict[str, Any]) -> Iterator[tuple[str, Speedup]]:
    """The product's verdict on each comparison of a stored series: SAME where both are equal, SLOWED otherwise.

    The slowed are equal among themselves, so they make further A/A comparisons: with the first of them for a
    baseline and the second for its partner.
    """
    rounds = {name: _rounds(name, values) for name, values in series["medians_ms"].items()}
    noisy = from_data(SeriesNoise, series["noise"]).is_noisy

    def compare(baseline: str, partner: str, run: str) -> Speedup:
        found = speedup_of(rounds[baseline], rounds[run], partner=rounds[partner], noisy=noisy)
        assert found is not None
        return found

    slowed = [name for name in rounds if name.startswith(SLOWED)]
    yield from ((SAME, compare(BASELINE, PARTNER, name)) for name in rounds if name.startswith(SAME))
    yield from ((SLOWED, compare(BASELINE, PARTNER, name)) for name in slowed)
    yield from ((SAME, compare(*slowed[:2], name)) for name in slowed[2:])


def _rounds(name: str, medians: Sequence[Sequence[float]]) -> list[Round]:
    return [
        Round(name, block, index, {LATENCY.name: (value,)}) for block, values in enumerate(medians) for index, value in enumerate(values)
    ]


def _report(stored: Sequence[dict[str, Any]]) -> str:
    """A Markdown table: by condition, tokens, threads and whether the product flagged it, then all together."""
    lines = [
        "| condition | tokens | threads | flagged noisy | series | A/A called different | 95 % bound | 5 % slowdown found | called faster | 95 % bounds |",
        "|---|--:|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    kinds = sorted({_kind(series) for series in stored})
    lines += [_row(kind, [series for series in stored if _kind(series) == kind]) for kind in kinds]
    return "\n".join([*lines, _row(("all", "", "", ""), stored)])


def _kind(series: dict[str, Any]) -> tuple[str, ...]:
    noisy = from_data(SeriesNoise, series["noise"]).is_noisy
    return series["condition"], str(series["tokens"]), str(series["threads"]), "yes" if noisy else "no"


def _row(kind: tuple[str, ...], stored: Sequence[dict[str, Any]]) -> str:
    found = [judged for series in stored for judged in judge(series)]
    same, slowed = ([speedup for kind, speedup in found if kind == wanted] for wanted in (SAME, SLOWED))
    wrong = sum(s.verdict is not Verdict.NOT_DISTINGUISHABLE for s in same)
    seen, backwards = (sum(s.verdict is v for s in slowed) for v in (Verdict.SLOWER, Verdict.FASTER))
    return (
        f"| {' | '.join(kind)} | {len(stored)} | {wrong} of {len(same)} | {_bounds(wrong, len(same))} "
        f"| {seen} of {len(slowed)} | {backwards} | {_bounds(seen, len(slowed))} |"
    )


def _bounds(count: int, trials: int) -> str:
    if not trials:
        return "–"
    interval = binomtest(count, trials).proportion_ci(0.95, method="exact")
    return f"{interval.low:.1%} to {interval.high:.1%}"


if __name__ == "__main__":
    sys.exit(main())
