"""Deleting takes everything that hangs on a thing, and no file that something else needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from engine.domain.artifact import Artifact
from engine.domain.errors import InvalidInput, NotFound
from engine.domain.experiment import Round, Run, RunStatus, StageFacts
from engine.domain.metrics import Measurement
from storage import RunFilter, Storage
from storage.schema import Base, run_search
from tests.storage.conftest import folder


@pytest.fixture
def lowered(storage: Storage, tmp_path: Path) -> Callable[[Run, str], None]:
    """Give a run everything a run can have, and five bytes of lowered files under a key."""

    def give(run: Run, key: str) -> None:
        storage.files.put_directory(key, folder(tmp_path / run.id, model="12345"))
        attempt = storage.runs.start(run.id)
        storage.runs.record_stage(run.id, attempt, (StageFacts("pruning", 1.0, {}),), key, 5)
        storage.runs.record_round(Round(run.id, 0, 0, {"latency": (1.0,)}), attempt)
        storage.runs.append_log(run.id, "done\n")
        storage.runs.annotate(run.id, tags=("nightly",))
        storage.runs.finish(
            run.id, attempt, RunStatus.SUCCEEDED, measurements=(Measurement("latency", "ms", 1, None, 1),)
        )

    return give


def test_deleting_runs_frees_only_files_nobody_else_needs(storage: Storage, add_experiment, lowered) -> None:
    _, one, same, other = add_experiment("", "a()@eager", "b()@eager", "c()@eager")
    for run, key in ((one, "shared"), (same, "shared"), (other, "alone")):
        lowered(run, key)
    assert storage.runs.space([one.id, same.id, other.id, "unknown"]) == 10
    assert storage.space().runs == 10
    assert storage.runs.delete([one.id, "unknown"]) == 0
    assert storage.files.exists("shared")
    assert storage.runs.delete([same.id, other.id]) == 10
    assert not storage.files.exists("shared") and not storage.files.exists("alone")
    assert storage.runs.search(RunFilter()).total == 1


def test_files_that_are_also_an_artifact_stay(storage: Storage, add_artifact, add_experiment, lowered) -> None:
    artifact = add_artifact()
    _, run = add_experiment("", "a()@eager", artifact=artifact)
    lowered(run, artifact.id)
    assert storage.runs.delete([run.id]) == 0
    assert storage.files.exists(artifact.id)


def test_a_run_leaves_no_row_behind(storage: Storage, add_experiment, lowered) -> None:
    (run,) = add_experiment("pruning()@eager", name="leftovers")
    lowered(run, "lowered-1")
    storage.shares.create(run.experiment_id, datetime.now(UTC) + timedelta(days=1))
    storage.experiments.delete(run.experiment_id)
    assert _rows(storage) == {"artifacts": 1}
    assert storage.runs.search(RunFilter(text="leftovers")).total == 0
    with pytest.raises(NotFound):
        storage.runs.get(run.id)


def test_a_baseline_is_not_taken_from_its_runs(storage: Storage, add_experiment: Callable[..., list[Run]]) -> None:
    baseline, run = add_experiment("", "@openvino")
    with pytest.raises(InvalidInput, match="baseline"):
        storage.runs.delete([baseline.id])
    assert len(storage.runs.of_experiment(baseline.experiment_id)) == 2
    storage.runs.delete([baseline.id, run.id])
    assert storage.runs.of_experiment(baseline.experiment_id) == []


def test_what_is_being_done_is_not_deleted(storage: Storage, add_artifact, add_experiment) -> None:
    artifact = add_artifact()
    (run,) = add_experiment("", artifact=artifact)
    storage.runs.start(run.id)
    for refuse in (
        lambda: storage.runs.delete([run.id]),
        lambda: storage.experiments.delete(run.experiment_id),
        lambda: storage.artifacts.delete(artifact.id, with_runs=True),
    ):
        with pytest.raises(InvalidInput, match="being done"):
            refuse()
    assert storage.runs.get(run.id).status is RunStatus.RUNNING


def test_an_artifact_goes_with_its_runs_only_when_told(storage: Storage, add_artifact, add_experiment, lowered) -> None:
    artifact, other = add_artifact("gone", "1234567"), add_artifact("stays")
    _, run = add_experiment("", "a()@eager", artifact=artifact)
    (kept,) = add_experiment("", artifact=other)
    lowered(run, "lowered-1")
    with pytest.raises(InvalidInput, match="has 1 experiment"):
        storage.artifacts.delete(artifact.id)
    assert storage.runs.get(run.id).lowered_id == "lowered-1"
    assert storage.artifacts.delete(artifact.id, with_runs=True) == 12
    assert not storage.files.exists(artifact.id) and not storage.files.exists("lowered-1")
    assert storage.runs.get(kept.id) == kept
    assert [s.artifact for s in storage.artifacts.list().items] == [other]


def test_an_artifact_without_experiments_just_goes(storage: Storage, add_artifact: Callable[..., Artifact]) -> None:
    artifact = add_artifact(content="1234567")
    assert storage.space().artifacts == 7
    assert storage.artifacts.delete(artifact.id) == 7
    assert storage.space().artifacts == 0
    assert replace(artifact, name="again") not in [s.artifact for s in storage.artifacts.list().items]


def _rows(storage: Storage) -> dict[str, int]:
    """Rows by table, tables without any left out."""
    with storage._database.read() as session:
        counts = {t.name: session.scalar(select(func.count()).select_from(t)) for t in Base.metadata.sorted_tables}
        counts["run_search"] = session.scalar(select(func.count()).select_from(run_search))
    return {name: count for name, count in counts.items() if count}
