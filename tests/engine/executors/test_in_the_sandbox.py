"""Workers of a run live in one sandbox: they talk over loopback, and end with whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.domain.codec import as_data, encode, from_data
from engine.domain.errors import Cancelled, ChildError
from engine.domain.layout import Cut, Layout
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.host import this_host
from engine.requests import AnswersResult, OpenRequest, RoundResult, TransformRequest, TransformResult
from engine.runtimes.registry import runtime_of
from engine.sandbox import RANKS, Child, Limits, start_child, tree
from tests.engine.conftest import inputs_file
from tests.engine.executors.test_spread import context_of_tensors
from tests.engine.runtimes.conftest import deployed
from tests.models import tiny_bert, tiny_card, tiny_onnx

QUICK = Workload(batch_size=2, sequence_length=16, new_tokens=4, threads=2, rounds=3, processes=1, round_seconds=0.05, warmup_calls=2)
WITHIN = 15.0


def limits() -> Limits:
    return Limits.of_host(wall_seconds=280)


def test_a_model_is_cut_proven_and_timed_inside(tmp_path: Path) -> None:
    model, output, scratch = tiny_bert(tmp_path / "model"), tmp_path / "output", tmp_path / "scratch"
    output.mkdir()
    scratch.mkdir()
    card = tiny_card(model)
    host = replace(this_host(), cores=max(2, this_host().cores))
    request = TransformRequest(
        str(model), card, "model_parallelism(kind=tensor, degree=2)", QUICK, "", str(output), host, 2
    )
    with start_child("transform" + RANKS, readable=[model], writable=[output], limits=limits(), log=tmp_path / "t.log", threads=2) as child:
        assert child.level == "full", child.isolation
        done = from_data(TransformResult, child.ask({"request": as_data(request)}, timeout=200))
    proof = done.facts[-1]
    assert proof.technique == "spreading" and float(proof.facts["max_abs_difference"]) < 1e-4
    assert done.lowered.layout.cut is Cut.TENSOR
    opening = OpenRequest(done.lowered, str(model), card, QUICK, "", 2, str(scratch))
    with measuring(opening, tmp_path, model) as child:
        child.ask({"request": as_data(opening)}, timeout=200)
        turn = from_data(RoundResult, child.ask({"round": 0.05}, timeout=60))
        assert len(turn.samples["latency"]) >= 3 and min(turn.samples["latency"]) > 0
        answers = from_data(AnswersResult, child.ask({"answers": None}, timeout=120))
        assert {m.name: m.median for m in answers.quality}["quality"] == 1.0
        assert child.peak_pss_bytes() > 2**26
        workers = [pid for pid in tree.descendants(child.pid) if b"spread.worker" in command(pid)]
        assert len(workers) == 2
    assert not alive(workers)


def measuring(request: OpenRequest, folder: Path, model: Path) -> Child:
    readable = [model, Path(request.lowered.directory), *([Path(request.dataset_file)] if request.dataset_file else [])]
    return start_child(
        "measure" + RANKS, readable=readable, writable=[Path(request.scratch_dir)], limits=limits(), log=folder / "m.log",
        threads=2,
    )  # fmt: skip


@pytest.fixture
def replicas(tmp_path: Path) -> OpenRequest:
    """Two replicas of a model that opens without torch."""
    deployment = deployed(tiny_onnx(tmp_path / "model"), RuntimeId.ONNXRUNTIME)
    files = runtime_of(RuntimeId.ONNXRUNTIME).lower(deployment, context_of_tensors(tmp_path / "lowered"))
    (tmp_path / "scratch").mkdir()
    files = replace(files, layout=Layout(replicas=2, timeout=5.0))
    workload = replace(QUICK, batch_size=4)
    return OpenRequest(files, "", deployment.card, workload, str(inputs_file(tmp_path)), 2, str(tmp_path / "scratch"))


def opened(request: OpenRequest, folder: Path) -> tuple[Child, list[int]]:
    child = measuring(request, folder, folder / "model")
    child.ask({"request": as_data(request)}, timeout=100)
    return child, tree.descendants(child.pid)


def test_a_killed_launcher_takes_its_workers_along(replicas: OpenRequest, tmp_path: Path) -> None:
    child, everyone = opened(replicas, tmp_path)
    launcher = next(pid for pid in everyone if len(tree.descendants(pid)) == 2 and b"engine.child" in command(pid))
    os.kill(launcher, signal.SIGKILL)
    with pytest.raises(ChildError, match="SIGKILL"):
        child.ask({"round": 0.05}, timeout=WITHIN)
    assert not alive([*everyone, child.pid])


def test_a_cancel_ends_workers_that_are_stopped(replicas: OpenRequest, tmp_path: Path) -> None:
    child, everyone = opened(replicas, tmp_path)
    stopped = next(pid for pid in everyone if b"spread.worker" in command(pid))
    os.kill(stopped, signal.SIGSTOP)
    began = time.monotonic()

    def cancelled() -> None:
        if time.monotonic() - began > 0.5:
            raise Cancelled("Cancelled on request.")

    with pytest.raises(Cancelled):
        child.ask({"round": 0.05}, timeout=60, tick=cancelled)
    assert time.monotonic() - began < WITHIN
    assert not alive([*everyone, child.pid])


def test_a_killed_worker_of_the_queue_leaves_nothing_behind(replicas: OpenRequest, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text(encode(replicas))
    script = (
        "import sys, time; from pathlib import Path; from engine.domain.codec import decode; from engine.requests import OpenRequest\n"
        "from tests.engine.executors.test_in_the_sandbox import opened\n"
        "folder = Path(sys.argv[1]); child, everyone = opened(decode(OpenRequest, (folder / 'request.json').read_text()), folder)\n"
        "print(child.pid, *everyone, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout
        everyone = [int(pid) for pid in worker.stdout.readline().split()]
        assert sum(b"spread.worker" in command(pid) for pid in everyone) == 2
        worker.kill()
    assert not alive(everyone)


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def alive(pids: list[int], is_alive: Callable[[int], bool] = tree.is_alive) -> list[int]:
    """Those that are still there after a while in which all should have gone."""
    deadline = time.monotonic() + WITHIN
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left
