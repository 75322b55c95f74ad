"""The worker as a process of its own: started once, stopped, killed, resumed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from engine.domain.artifact import Artifact
from engine.domain.experiment import Experiment, Round, RunStatus
from engine.domain.workload import DatasetRef, Workload
from engine.execution.lock import holder, is_locked
from engine.grammar import parse_recipe
from engine.launch import launch
from engine.queue import Queue
from engine.settings import Settings
from engine.worker import ensure_worker, log_file, worker_lock
from storage import IntakeJob, Storage
from tests.models import tiny_onnx

PATIENCE = 240.0


class Worker:
    """The worker of a test's installation, as the dashboard has it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def pid(self) -> int:
        return int(holder(worker_lock(self.settings)).split()[0])

    def start(self) -> None:
        assert ensure_worker(self.settings, patience_seconds=PATIENCE)

    def end(self, how: signal.Signals) -> None:
        """Returns when it and everything it started is gone."""
        process = psutil.Process(self.pid)
        everyone = [*process.children(recursive=True), process]
        process.send_signal(how)
        assert not psutil.wait_procs(everyone, timeout=30)[1]


@pytest.fixture
def worker(settings: Settings) -> Iterator[Worker]:
    handle = Worker(settings)
    yield handle
    if is_locked(worker_lock(settings)):
        handle.end(signal.SIGTERM)


def until(condition: Callable[[], object], settings: Settings) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, log_file(settings).read_text()
        time.sleep(0.05)


def test_many_callers_start_one_worker_which_ends_when_told(worker: Worker, settings: Settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        started = list(pool.map(lambda _: ensure_worker(settings, PATIENCE), range(4)))
    assert sorted(started) == [False, False, False, True]
    # a session of its own: it outlives the dashboard's terminal
    assert os.getsid(worker.pid) == worker.pid
    second = subprocess.run(
        [sys.executable, "-m", "engine", "worker"],
        env={**os.environ, **settings.as_environment()},
        capture_output=True,
        text=True,
    )
    assert second.returncode == 1 and "already" in second.stderr
    worker.end(signal.SIGTERM)
    assert "stopping" in log_file(settings).read_text()


def test_intake_and_heartbeat(worker: Worker, storage: Storage, settings: Settings, tmp_path: Path) -> None:
    good, bad = tiny_onnx(tmp_path / "tiny"), tmp_path / "nothing.onnx"
    bad.write_bytes(b"no model")
    queue = Queue(settings)
    for name, path in (("good", good), ("bad", bad)):
        storage.intakes.create(IntakeJob(name, name, str(path), "a test", datetime.now(UTC)))
    queue.enqueue_intake("good")
    worker.start()
    # "bad" was committed by somebody who died before he enqueued it
    until(lambda: all(job.status.is_final for job in storage.intakes.recent()), settings)
    assert storage.artifacts.get(storage.intakes.get("good").artifact_id).name == "good"
    refused = storage.intakes.get("bad")
    assert refused.status is RunStatus.FAILED and refused.problem and refused.problem.what
    (beat,) = storage.hosts.list()
    assert beat.facts.cores >= 1


def test_an_orphan_is_found_and_what_waits_can_be_cancelled(
    worker: Worker, storage: Storage, settings: Settings, tiny: Artifact, inputs: DatasetRef
) -> None:
    busy = launch(storage, None, tiny, Workload(rounds=1000, processes=1, round_seconds=5.0), [], dataset=inputs)
    waits = launch(storage, None, tiny, Workload(), [], dataset=inputs)
    worker.start()
    until(lambda: storage.runs.of_experiment(busy.id)[0].status is RunStatus.RUNNING, settings)
    for experiment in (waits, busy):
        storage.experiments.request_cancel(experiment.id)
        until(lambda e=experiment: e.id not in storage.experiments.unfinished(), settings)  # type: ignore[misc]
        assert storage.runs.of_experiment(experiment.id)[0].status is RunStatus.CANCELLED
    # killed or not, nothing it started is left
    assert not psutil.Process(worker.pid).children(recursive=True)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "stop"])
def test_a_worker_that_dies_at_any_moment_keeps_finished_transforms_and_rounds(
    worker: Worker, storage: Storage, settings: Settings, tiny: Artifact, inputs: DatasetRef, how: signal.Signals
) -> None:
    workload = Workload(rounds=10, processes=2, round_seconds=0.2, warmup_calls=1)
    experiment = launch(
        storage, Queue(settings), tiny, workload, [parse_recipe("@onnxruntime")], dataset=inputs, keep_models=True
    )
    story = Story(storage, experiment)
    moments = random.Random(how)
    seen: list[Round] = []
    for reached in (lambda: True, lambda: story.transforms() >= 1, lambda: len(story.rounds()) >= 3):
        worker.start()
        until(reached, settings)
        time.sleep(moments.uniform(0.0, 0.5))
        worker.end(how)
        # nothing that was recorded before is lost by another death
        assert set(map(place, seen)) <= set(map(place, story.rounds()))
        seen = story.rounds()
    worker.start()
    until(lambda: experiment.id not in storage.experiments.unfinished(), settings)

    baseline, candidate = storage.runs.of_experiment(experiment.id)
    assert (baseline.status, candidate.status) == (RunStatus.SUCCEEDED, RunStatus.SUCCEEDED)
    assert story.transforms() == 2
    assert [r for r in story.rounds() if place(r) in set(map(place, seen))] == seen
    for run in (baseline, candidate):
        done = storage.runs.rounds(run.id)
        assert workload.rounds <= len(done) <= workload.rounds + 3
        assert len({r.block for r in done}) > 1
    assert candidate.speedup and candidate.attempt > 1


class Story:
    """What an experiment's rows say has been done."""

    def __init__(self, storage: Storage, experiment: Experiment) -> None:
        self._storage = storage
        self._runs = [run.id for run in storage.runs.of_experiment(experiment.id)]

    def transforms(self) -> int:
        return sum(self._storage.runs.log(run).count("transform: done") for run in self._runs)

    def rounds(self) -> list[Round]:
        return [r for run in self._runs for r in self._storage.runs.rounds(run)]


def place(round_: Round) -> tuple[str, int, int]:
    return (round_.run_id, round_.block, round_.index)
