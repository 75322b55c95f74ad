"""Experiments carried out for real: sandboxed children, a tiny ONNX model, two runtimes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace

import psutil
import pytest

from engine.domain.artifact import Artifact
from engine.domain.codec import from_data
from engine.domain.experiment import Experiment, Progress, Run, RunStatus
from engine.domain.load import LoadResult, Pattern
from engine.domain.metrics import LATENCY, PEAK_MEMORY, QUALITY, SIZE, THROUGHPUT
from engine.domain.operators import OperatorProfile
from engine.domain.workload import DatasetRef, Percentile, Workload
from engine.execution.execute import end_cancelled, run_experiment
from engine.execution.lock import HostLock
from engine.execution.recorder import Report
from engine.execution.transforming import RESULT_FILE, transform_key
from engine.grammar import parse_recipe
from engine.launch import add_recipes, launch, plan_of, repeat
from engine.queue import Queue
from engine.settings import Settings
from storage import Storage
from tests.engine.conftest import QUICK

INT8 = str(parse_recipe("quantization(format=int8)"))
SAME = "@onnxruntime"
"""What the baseline of an ONNX artifact runs on: the quickest candidate there is."""
REFUSED = str(parse_recipe("pruning@onnxruntime"))


@dataclass(frozen=True)
class Bench:
    """A tiny model with its inputs, and what a test does with it again and again."""

    storage: Storage
    settings: Settings
    artifact: Artifact
    dataset: DatasetRef

    def begin(self, *recipes: str, workload: Workload = QUICK, keep_models: bool = True) -> Experiment:
        wanted = [parse_recipe(recipe) for recipe in recipes]
        return launch(
            self.storage, None, self.artifact, workload, wanted, dataset=self.dataset, keep_models=keep_models
        )

    def carry_out(self, experiment: Experiment, report: Report = lambda run, progress: None) -> bool:
        return run_experiment(experiment.id, self.storage, self.settings, report)

    def runs(self, experiment: Experiment) -> dict[str, Run]:
        return {run.recipe: run for run in self.storage.runs.of_experiment(experiment.id)}

    def statuses(self, experiment: Experiment) -> set[RunStatus]:
        return {run.status for run in self.runs(experiment).values()}

    def transforms(self, run: Run) -> int:
        return self.storage.runs.log(run.id).count("transform: done")

    def blocks(self, run: Run) -> set[int]:
        return {r.block for r in self.storage.runs.rounds(run.id)}

    def key(self, experiment: Experiment, run: Run) -> str:
        return transform_key(self.artifact, plan_of(run, self.artifact, self.storage), experiment, self.settings)

    def spoil(self, experiment: Experiment, recipe: str) -> Experiment:
        """Leave broken files where the transform of this recipe will be looked for; their owner."""
        key = self.key(experiment, self.runs(experiment)[recipe])
        donor = self.begin(recipe)
        self.carry_out(donor)
        for file in self.storage.files.local_path(key).iterdir():
            if file.name != RESULT_FILE:
                file.write_bytes(b"nonsense")
        return donor


@pytest.fixture
def bench(storage: Storage, settings: Settings, tiny: Artifact, inputs: DatasetRef) -> Bench:
    return Bench(storage, settings, tiny, inputs)


def test_every_run_ends_with_measurements_and_a_speedup(bench: Bench) -> None:
    # openvino counts whole microseconds, of which one row takes less than one
    experiment = bench.begin(INT8, "@openvino", REFUSED, workload=replace(QUICK, batch_size=64))
    told: list[tuple[str, float]] = []
    assert bench.carry_out(experiment, lambda run, p: told.append((run.recipe, p.fraction)))

    runs = bench.runs(experiment)
    refused = runs.pop(REFUSED)
    assert refused.status is RunStatus.REFUSED and refused.problems
    assert {run.status for run in runs.values()} == {RunStatus.SUCCEEDED}, [r.problems for r in runs.values()]
    for run in runs.values():
        names = {m.name for m in run.measurements}
        assert {m.name for m in (LATENCY, THROUGHPUT, PEAK_MEMORY, SIZE, QUALITY)} <= names
        assert run.facts and run.environment and run.attempt == 1
        assert len(bench.storage.runs.rounds(run.id)) == QUICK.rounds
        assert bench.storage.files.exists(run.lowered_id)
        assert bench.transforms(run) == 1
        operators = from_data(OperatorProfile, bench.storage.runs.attachments(run.id)["operators"])
        assert operators.source in ("onnxruntime", "openvino") and operators.total_ms > 0
        fractions = [fraction for recipe, fraction in told if recipe == run.recipe]
        assert fractions == sorted(fractions) and fractions[0] >= 0.0 and fractions[-1] <= 1.0
    baseline = runs.pop("")
    assert baseline.speedup is None and baseline.value(QUALITY.name) == 1.0
    assert all(run.speedup and run.verdict for run in runs.values())
    assert no_children()


def test_workers_take_a_core_each_beside_a_baseline_of_one(bench: Bench) -> None:
    recipe = "distributed(replicas=2)@onnxruntime"
    experiment = bench.begin(recipe, workload=replace(QUICK, threads=1, batch_size=4))
    bench.carry_out(experiment)
    remark = "Its 2 workers take a core each, the baseline 1 in all."
    assert {name: remark in run.remarks for name, run in bench.runs(experiment).items()} == {"": False, recipe: True}


def test_a_failing_run_does_not_stop_the_others(bench: Bench) -> None:
    experiment = bench.begin("@openvino", SAME)
    bench.spoil(experiment, "@openvino")
    bench.carry_out(experiment)
    runs = bench.runs(experiment)
    broken = runs.pop("@openvino")
    assert broken.status is RunStatus.FAILED
    assert broken.problems and broken.problems[0].what
    assert "failed:" in bench.storage.runs.log(broken.id)
    assert {run.status for run in runs.values()} == {RunStatus.SUCCEEDED}
    assert no_children()


def test_a_failed_run_is_repeated_alone_in_a_new_block(bench: Bench) -> None:
    experiment = bench.begin("@openvino", SAME)
    donor = bench.spoil(experiment, "@openvino")
    bench.carry_out(experiment)
    before = bench.runs(experiment)

    bench.storage.experiments.delete(donor.id)
    repeat(bench.storage, Queue(bench.settings), before["@openvino"].id)
    bench.carry_out(experiment)
    after = bench.runs(experiment)
    assert after["@openvino"].status is RunStatus.SUCCEEDED and after["@openvino"].speedup
    assert after[""] == before[""] and after[SAME].attempt == 1
    assert bench.blocks(after["@openvino"]) == {1}
    assert bench.blocks(after[""]) == {0, 1}


def test_without_a_baseline_every_run_fails_with_the_reason(bench: Bench) -> None:
    experiment = bench.begin(SAME)
    bench.spoil(experiment, "")
    bench.carry_out(experiment)
    runs = bench.runs(experiment)
    assert {run.status for run in runs.values()} == {RunStatus.FAILED}
    assert "baseline" in str(runs[SAME].problems[0])


def test_added_recipes_are_measured_beside_a_new_baseline(bench: Bench) -> None:
    experiment = bench.begin()
    bench.carry_out(experiment)
    (baseline,) = bench.storage.runs.of_experiment(experiment.id)
    add_recipes(bench.storage, Queue(bench.settings), experiment.id, [parse_recipe(SAME)])
    bench.carry_out(experiment)
    runs = bench.runs(experiment)
    assert runs[SAME].status is RunStatus.SUCCEEDED and runs[SAME].speedup
    assert runs[""] == baseline
    assert bench.transforms(baseline) == 1
    assert bench.blocks(baseline) == {0, 1}


def test_duplicate_delivery_records_one_result(bench: Bench) -> None:
    experiment = bench.begin(SAME)
    answers: list[bool] = []

    def deliver() -> None:
        answers.append(bench.carry_out(experiment))

    threads = [threading.Thread(target=deliver) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False, False, True]
    first = bench.runs(experiment)
    assert bench.carry_out(experiment)
    assert bench.runs(experiment) == first
    for run in first.values():
        assert (run.status, run.attempt, bench.transforms(run)) == (RunStatus.SUCCEEDED, 1, 1)
        assert len(bench.storage.runs.rounds(run.id)) == QUICK.rounds


def test_who_was_superseded_writes_no_result(bench: Bench) -> None:
    experiment = bench.begin()
    taken: list[int] = []

    def take_over(run: Run, progress: Progress) -> None:
        if progress.stage == "measuring" and not taken:
            taken.append(bench.storage.runs.start(run.id))

    bench.carry_out(experiment, take_over)
    (run,) = bench.storage.runs.of_experiment(experiment.id)
    assert (run.status, run.attempt, run.measurements) == (RunStatus.RUNNING, 2, ())
    bench.carry_out(experiment)
    (run,) = bench.storage.runs.of_experiment(experiment.id)
    assert (run.status, run.attempt, bench.transforms(run)) == (RunStatus.SUCCEEDED, 3, 1)
    assert no_children()


@pytest.mark.parametrize("stage", ["onnxruntime", "opening", "measuring"])
def test_cancel_takes_effect_soon_and_leaves_no_process(bench: Bench, stage: str) -> None:
    endless = Workload(rounds=1000, processes=1, round_seconds=10.0, warmup_calls=1)
    experiment = bench.begin(SAME, workload=endless)
    asked: list[float] = []

    def cancel(run: Run, progress: Progress) -> None:
        if progress.stage == stage and not asked:
            asked.append(time.monotonic())
            bench.storage.experiments.request_cancel(experiment.id)

    bench.carry_out(experiment, cancel)
    took = time.monotonic() - asked[0]
    assert bench.statuses(experiment) == {RunStatus.CANCELLED}
    # a round alone lasts 20 s; 2 s are promised, a busy test machine is given some more
    assert took < 10
    assert no_children()
    assert not list((bench.settings.home / "scratch").iterdir())


def test_what_was_cancelled_while_it_waited_ends_without_a_start(bench: Bench) -> None:
    experiment = bench.begin(SAME)
    end_cancelled(experiment.id, bench.storage, bench.settings)
    assert len(bench.storage.experiments.unfinished()) == 1
    bench.storage.experiments.request_cancel(experiment.id)
    end_cancelled(experiment.id, bench.storage, bench.settings)
    assert bench.statuses(experiment) == {RunStatus.CANCELLED}


def test_waiting_for_the_host_says_for_whom_and_can_be_cancelled(bench: Bench) -> None:
    experiment = bench.begin()
    heard: list[str] = []

    def wait(holder: str) -> None:
        heard.append(holder)
        bench.storage.experiments.request_cancel(experiment.id)

    with HostLock(bench.settings.home).hold("somebody else"):
        run_experiment(experiment.id, bench.storage, bench.settings, wait=wait)
    assert "somebody else" in heard[0]
    assert bench.statuses(experiment) == {RunStatus.CANCELLED}


def test_models_are_not_kept_when_nobody_wants_them(bench: Bench) -> None:
    experiment = bench.begin(keep_models=False)
    bench.carry_out(experiment)
    (run,) = bench.storage.runs.of_experiment(experiment.id)
    assert run.status is RunStatus.SUCCEEDED and run.lowered_id == "" and (run.value(SIZE.name) or 0) > 0
    assert not bench.storage.files.exists(bench.key(experiment, run))


def test_a_run_that_kills_the_worker_again_and_again_is_given_up(bench: Bench) -> None:
    experiment = bench.begin()
    (run,) = bench.storage.runs.of_experiment(experiment.id)
    for _ in range(10):
        bench.storage.runs.start(run.id)
    bench.carry_out(experiment)
    (run,) = bench.storage.runs.of_experiment(experiment.id)
    assert run.status is RunStatus.INTERRUPTED
    assert "died" in run.problems[0].what and run.problems[0].mend


def no_children() -> bool:
    return not psutil.wait_procs(psutil.Process().children(recursive=True), timeout=2)[1]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_what_opens_a_model_without_torch_carries_none(runtime: str) -> None:
    # peak memory is measured: libraries that a model does not need would be counted as its own
    script = (
        "import sys, engine.pipeline; from engine.runtimes.registry import runtime_of;"
        f"runtime_of('{runtime}'); heavy = {{'torch', 'transformers', 'nncf'}} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_under_server_load_the_highest_rate_is_found(bench: Bench) -> None:
    experiment = bench.begin(SAME, workload=replace(QUICK, pattern=Pattern.SERVER, latency_bound=1000.0, percentile=Percentile.P50))
    bench.carry_out(experiment)
    for run in bench.runs(experiment).values():
        assert run.status is RunStatus.SUCCEEDED, run.problems
        load = from_data(LoadResult, bench.storage.runs.attachments(run.id)["load"])
        assert load.best is not None and run.value("highest_rate") == load.best.rate
        assert 0 < load.best.latencies[50] <= 1000.0 and run.value("load_latency") == load.best.latencies[50]


def test_offline_sweeps_the_batch_and_keeps_none_of_the_models_it_made(bench: Bench) -> None:
    experiment = bench.begin(SAME, workload=replace(QUICK, pattern=Pattern.OFFLINE, batch_size=3))
    bench.carry_out(experiment)
    runs = bench.runs(experiment)
    for run in runs.values():
        load = from_data(LoadResult, bench.storage.runs.attachments(run.id)["load"])
        assert [p.batch for p in load.points] == [1, 2, 3] and load.remarks == ()
        assert run.value("offline_throughput") == max(p.throughput for p in load.points)
        assert bench.storage.files.exists(run.lowered_id)
    smaller = replace(experiment, workload=replace(experiment.workload, batch_size=2), keep_models=False)
    assert not bench.storage.files.exists(bench.key(smaller, runs[""]))
    assert no_children()
