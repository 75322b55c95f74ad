"""Only the newest attempt writes, and each attempt ends once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from engine.domain.errors import InvalidInput, Problem, StorageError
from engine.domain.experiment import Progress, Round, Run, RunStatus, StageFacts
from engine.domain.metrics import Measurement, Ratio, Verdict
from engine.settings import Settings
from storage import Storage, open_storage
from tests.storage.conftest import folder

FACTS = (StageFacts("pruning", 1.0, {"parameters_after": 7}),)
LATENCY = Measurement("latency", "ms", 10.0, (9.0, 11.0), 64)


def test_a_superseded_attempt_changes_nothing(storage: Storage, add_experiment: Callable[..., list[Run]]) -> None:
    (run,) = add_experiment("pruning()@eager")
    old, new = storage.runs.start(run.id), storage.runs.start(run.id)
    before = storage.runs.get(run.id)
    assert not storage.runs.progress(run.id, old, Progress("measure", 0.5))
    assert not storage.runs.record_stage(run.id, old, FACTS, "", 5)
    assert not storage.runs.record_round(Round(run.id, 0, 0, {"latency": (1.0,)}), old)
    assert not storage.runs.finish(run.id, old, RunStatus.FAILED, problems=(Problem("StageError", "late"),))
    assert storage.runs.get(run.id) == before
    assert storage.runs.rounds(run.id) == []
    assert storage.runs.finish(run.id, new, RunStatus.SUCCEEDED, measurements=(LATENCY,))


def test_an_attempt_ends_once(storage: Storage, add_experiment: Callable[..., list[Run]]) -> None:
    (run,) = add_experiment("")
    attempt = storage.runs.start(run.id)
    assert storage.runs.finish(run.id, attempt, RunStatus.CANCELLED)
    assert not storage.runs.finish(run.id, attempt, RunStatus.SUCCEEDED, measurements=(LATENCY,))
    assert storage.runs.get(run.id).status is RunStatus.CANCELLED
    with pytest.raises(InvalidInput, match="not an end"):
        storage.runs.finish(run.id, attempt, RunStatus.RUNNING)


def test_two_writers_at_once_leave_one_result(any_settings: Settings, storage: Storage, add_experiment) -> None:
    """Two workers believe that a run is theirs; whoever started last records it, whole."""
    second = open_storage(any_settings)
    runs = add_experiment(*(f"pruning(sparsity=0.{n})@eager" for n in range(1, 9)))
    for run in runs:
        meet = Barrier(2)

        def work(worker: Storage, latency: float, run: Run = run, meet: Barrier = meet) -> tuple[int, bool]:
            meet.wait()
            attempt = worker.runs.start(run.id)
            meet.wait()
            worker.runs.record_round(Round(run.id, 0, 0, {"latency": (latency,)}), attempt)
            measured = (Measurement("latency", "ms", latency, None, 1),)
            return attempt, worker.runs.finish(run.id, attempt, RunStatus.SUCCEEDED, measurements=measured)

        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(work, (storage, second), (1.0, 2.0)))
        assert sorted(attempt for attempt, _ in outcomes) == [1, 2], "no attempt number is given twice"
        assert [recorded for attempt, recorded in sorted(outcomes)] == [False, True]
        winner = 1.0 if outcomes[0][1] else 2.0
        assert storage.runs.get(run.id).value("latency") == winner
        assert storage.runs.rounds(run.id) == [Round(run.id, 0, 0, {"latency": (winner,)})]
    second.close()


def test_a_finished_run_carries_its_result(storage: Storage, add_experiment, tmp_path: Path) -> None:
    (run,) = add_experiment("pruning()@eager")
    storage.files.put_directory("lowered-1", folder(tmp_path / "lowered", model="12345"))
    attempt = storage.runs.start(run.id)
    assert storage.runs.record_stage(run.id, attempt, FACTS, "lowered-1", 5)
    assert storage.runs.record_stage(run.id, attempt, FACTS, "lowered-1", 5), "told twice"
    assert storage.runs.progress(run.id, attempt, Progress("measure", 0.5, 9.0))
    assert storage.runs.get(run.id).progress == Progress("measure", 0.5, 9.0)
    assert storage.runs.finish(
        run.id, attempt, RunStatus.SUCCEEDED, measurements=(LATENCY,), speedup=Ratio(2.0, (1.9, 2.1)),
        verdict=Verdict.FASTER, remarks=("why",),
    )  # fmt: skip
    found = storage.runs.get(run.id)
    assert (found.status, found.facts, found.lowered_id, found.progress) == (
        RunStatus.SUCCEEDED,
        FACTS,
        "lowered-1",
        None,
    )
    assert (found.measurements, found.speedup, found.verdict) == ((LATENCY,), Ratio(2.0, (1.9, 2.1)), Verdict.FASTER)
    assert found.started_at is not None and found.finished_at is not None and found.started_at <= found.finished_at


def test_a_stage_whose_files_are_not_stored_is_refused(
    storage: Storage, add_experiment: Callable[..., list[Run]]
) -> None:
    (run,) = add_experiment("pruning()@eager")
    attempt = storage.runs.start(run.id)
    with pytest.raises(StorageError, match="not in the store"):
        storage.runs.record_stage(run.id, attempt, FACTS, "gone", 5)
    assert storage.runs.get(run.id).facts == ()


def test_a_repeated_run_begins_from_nothing(storage: Storage, add_experiment, tmp_path: Path) -> None:
    (run,) = add_experiment("pruning()@eager")
    storage.files.put_directory("lowered-1", folder(tmp_path / "lowered", model="12345"))
    attempt = storage.runs.start(run.id)
    storage.runs.record_stage(run.id, attempt, FACTS, "lowered-1", 5)
    storage.runs.record_round(Round(run.id, 0, 0, {"latency": (1.0,)}), attempt)
    storage.runs.append_log(run.id, "first try\n")
    storage.experiments.request_cancel(run.experiment_id)
    storage.runs.finish(run.id, attempt, RunStatus.FAILED, problems=(Problem("ChildError", "died"),))

    storage.runs.requeue(run.id)
    found = storage.runs.get(run.id)
    assert (found.status, found.problems, found.facts, found.lowered_id) == (RunStatus.QUEUED, (), (), "")
    assert storage.runs.rounds(run.id) == []
    assert storage.runs.log(run.id) == "first try\n"
    assert not storage.files.exists("lowered-1")
    assert not storage.experiments.cancel_requested(run.experiment_id)
    assert not storage.runs.record_round(Round(run.id, 0, 0, {}), attempt), "the failed attempt is fenced out"
    with pytest.raises(InvalidInput, match="cannot be repeated"):
        storage.runs.requeue(run.id)
