"""How often the verdict is wrong: A against A, and a true slowdown of 5 %.

    python -m benchmarks.calibration measure --condition quiet --same 4 --slowed 12 --place FOLDER
    python -m benchmarks.calibration report

Each `measure` adds one block to benchmarks/results/calibration.json: the baseline, its partner,
so many further processes of the same model and so many that are slowed by work injected into every call,
each in a fresh process, at the default budget (10 rounds of 1 s), through the product's own
Block. Every comparison is with the block's one baseline, so those of a block are not
independent; block counts stand beside. `report` judges the stored rounds by the product's
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
from engine.domain.metrics import LATENCY, Verdict
from engine.domain.noise import BlockNoise
from engine.domain.workload import Workload
from engine.execution.judging import PARTNER, pinned_cores
from engine.host import environment, this_host
from engine.measure.block import Block, Candidate
from engine.requests import OpenRequest, TransformRequest, TransformResult
from engine.sandbox import Child, Limits, start_child

RESULTS = Path(__file__).parent / "results" / "calibration.json"
RECIPE = "@onnxruntime"
TOKENS = 8
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
    measure.add_argument("--threads", type=int, default=1)
    measure.add_argument("--place", type=Path, required=True, help="keeps the lowered model from chunk to chunk")
    measure.add_argument("--results", type=Path, default=RESULTS)
    report = commands.add_parser("report")
    report.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.command == "measure":
        _append(args.results, _block(args))
    print(_report(_read(args.results)))
    return 0


def _block(args: argparse.Namespace) -> dict[str, Any]:
    """Measure one block; its rounds as medians, which is all that verdicts are made of."""
    began = time.monotonic()
    card, lowered = _lowered(args.place)
    workload = Workload(threads=args.threads, sequence_length=TOKENS)
    with tempfile.TemporaryDirectory() as folder:
        make = partial(_candidate, Path(folder), card, lowered, workload)
        names = [f"{kind}-{i}" for kind, count in ((SAME, args.same), (SLOWED, args.slowed)) for i in range(count)]
        block = Block(
            0, [make(BASELINE), *map(make, names)], shadows=[make(PARTNER)], start=_start, limits=Limits.of_host()
        )
        medians: dict[str, list[float]] = {}
        with _neighbour(args.condition == "neighbour"), block:
            for turns in block.rounds(workload.rounds):
                for turn in turns:
                    medians.setdefault(turn.run_id, []).append(_median(turn))
            medians[PARTNER] = [_median(turn) for turn in block.shadow_rounds[PARTNER]]
            if block.postponed or block.failures:
                raise SystemExit(f"Not all took part: {block.postponed} {block.failures}")
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "condition": args.condition,
        "recipe": RECIPE, "tokens": TOKENS, "threads": args.threads,
        "seconds": round(time.monotonic() - began), "load_average": os.getloadavg()[0],
        "environment": as_data(environment(args.threads, "full")),
        "noise": as_data(block.noise),
        "medians_ms": {name: [round(value, 5) for value in values] for name, values in medians.items()},
    }  # fmt: skip


def _median(turn: Round) -> float:
    return float(np.median(turn.samples[LATENCY.name]))


def _candidate(folder: Path, card: ModelCard, lowered: Lowered, workload: Workload, name: str) -> Candidate:
    scratch = folder / name
    scratch.mkdir()
    model = model_directory()
    request = OpenRequest(
        lowered, str(model), card, workload, "", workload.threads, str(scratch), pinned=pinned_cores(workload.threads)
    )
    return Candidate(name, request, (model, Path(lowered.directory)), folder / f"{name}.log")


def _start(kind: str, *, log: Path, **rest: Any) -> Child:
    module = "benchmarks.slowed_child" if log.stem.startswith(SLOWED) else "engine.child"
    return start_child(kind, log=log, module=module, **rest)


def _lowered(place: Path) -> tuple[ModelCard, Lowered]:
    """MiniLM lowered once, with its card; found again in `place`."""
    kept = place / "lowered.pickle"
    if not kept.exists():
        output = place / "output"
        output.mkdir(parents=True)
        card, workload = card_of(place), Workload(threads=1, sequence_length=TOKENS)
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
    blocks: list[dict[str, Any]] = json.loads(path.read_text())["blocks"] if path.exists() else []
    return blocks


def _append(path: Path, block: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"blocks": [*_read(path), block]}, indent=1) + "\n")


def judge(block: dict[str, Any]) -> dict[str, Speedup]:
    """The product's verdict on each comparison of a stored block."""
    rounds = {name: _rounds(name, values) for name, values in block["medians_ms"].items()}
    noisy = from_data(BlockNoise, block["noise"]).is_noisy
    found = {}
    for name, own in rounds.items():
        if name not in (BASELINE, PARTNER):
            speedup = speedup_of(rounds[BASELINE], own, partner=rounds[PARTNER], noisy=noisy)
            assert speedup is not None
            found[name] = speedup
    return found


def _rounds(name: str, medians: Sequence[float]) -> list[Round]:
    return [Round(name, 0, index, {LATENCY.name: (value,)}) for index, value in enumerate(medians)]


def _report(blocks: Sequence[dict[str, Any]]) -> str:
    """A Markdown table: by condition and threads, then all conditions together."""
    lines = [
        "| condition | threads | blocks (noisy) | A/A called different | 95 % bound | 5 % slowdown found | called faster | 95 % bounds |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    groups = sorted({(b["condition"], b["threads"]) for b in blocks})
    lines += [_row(c, str(t), [b for b in blocks if (b["condition"], b["threads"]) == (c, t)]) for c, t in groups]
    if len(groups) > 1:
        lines.append(_row("all", "", blocks))
    return "\n".join(lines)


def _row(condition: str, threads: str, blocks: Sequence[dict[str, Any]]) -> str:
    found = [(name, s) for block in blocks for name, s in judge(block).items()]
    same = [s for name, s in found if name.startswith(SAME)]
    slowed = [s for name, s in found if name.startswith(SLOWED)]
    noisy = sum(from_data(BlockNoise, b["noise"]).is_noisy for b in blocks)
    wrong = sum(s.verdict is not Verdict.NOT_DISTINGUISHABLE for s in same)
    seen, backwards = (sum(s.verdict is v for s in slowed) for v in (Verdict.SLOWER, Verdict.FASTER))
    return (
        f"| {condition} | {threads} | {len(blocks)} ({noisy}) | {wrong} of {len(same)} | {_bounds(wrong, len(same))} "
        f"| {seen} of {len(slowed)} | {backwards} | {_bounds(seen, len(slowed))} |"
    )


def _bounds(count: int, trials: int) -> str:
    if not trials:
        return "–"
    interval = binomtest(count, trials).proportion_ci(0.95, method="exact")
    return f"{interval.low:.1%} to {interval.high:.1%}"


if __name__ == "__main__":
    sys.exit(main())
