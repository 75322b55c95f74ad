"""What every repository keeps: the same things come back, unknown ids say so."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.domain.artifact import Artifact
from engine.domain.calibration import Bandwidth, Calibration, Peak, Precision
from engine.domain.errors import InvalidInput, NotFound, Problem, StorageError
from engine.domain.experiment import Experiment, Progress, Round, Run, RunStatus, StageFacts
from engine.domain.host import Environment, HostFacts
from engine.domain.metrics import Measurement, Provenance, Ratio, Verdict
from engine.domain.workload import DatasetRef, Target, TargetMetric, Workload
from storage import IntakeJob, Storage
from tests.storage.conftest import CARD, NOON, new_run

ENVIRONMENT = Environment("host", "cpu", 2, 8, "6.1", "3.11", ("avx2",), 2, "performance", "full", {"torch": "2.13"})
MEASURED = (
    Measurement("latency", "ms", 11.0, (10.5, 11.5), 64),
    Measurement("quality", "ratio", 0.995, None, 256),
    Measurement("cosine", "ratio", 0.997, (0.99, 1.0), 256, Provenance.PROJECTED),
)


def test_an_artifact_is_found_by_id_and_by_prefix(storage: Storage, add_artifact: Callable[..., Artifact]) -> None:
    artifact = add_artifact("MiniLM")
    assert storage.artifacts.get(artifact.id) == artifact
    assert storage.artifacts.get(artifact.id[:4]) == artifact
    with pytest.raises(NotFound, match="at least 4"):
        storage.artifacts.get(artifact.id[:3])
    with pytest.raises(NotFound):
        storage.artifacts.get("feed" * 16)


def test_an_ambiguous_prefix_is_refused(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("bytes")
    for digit in "01":
        identity = "abcdef" + digit * 58
        storage.files.put_file(identity, tmp_path / "file")
        storage.artifacts.add(Artifact(identity, "net", 5, NOON, CARD))
    with pytest.raises(InvalidInput, match="Several"):
        storage.artifacts.get("abcdef")


def test_the_same_bytes_are_one_artifact(storage: Storage, add_artifact: Callable[..., Artifact]) -> None:
    first = add_artifact("first name")
    assert storage.artifacts.add(replace(first, name="second name")) == first
    assert storage.artifacts.list().total == 1


def test_an_artifact_without_files_is_not_recorded(storage: Storage) -> None:
    with pytest.raises(StorageError, match="not in the store"):
        storage.artifacts.add(Artifact("a" * 64, "net", 5, NOON, CARD))
    assert storage.artifacts.list().total == 0


def test_artifacts_are_listed_with_their_figures(storage: Storage, add_artifact, add_experiment) -> None:
    artifact, other = add_artifact("MiniLM"), add_artifact("100%_resnet")
    _, fast, poor = add_experiment("", "quantization()@openvino", "pruning()@eager", artifact=artifact)
    _finish(storage, fast, Ratio(3.9, (3.8, 4.0)))
    _finish(storage, poor, Ratio(9.0, (8.9, 9.1)), quality=0.5)

    page = storage.artifacts.list("minilm")
    assert (page.total, page.items[0].runs, page.items[0].best_speedup) == (1, 3, 3.9), "poor quality does not count"
    assert [s.artifact for s in storage.artifacts.list("100%").items] == [other], "% is a character, not a pattern"
    assert storage.artifacts.list(offset=1, limit=1).total == 2


def test_an_experiment_comes_back_with_all_it_carries(storage: Storage, add_artifact: Callable[..., Artifact]) -> None:
    experiment = Experiment(
        uuid.uuid4().hex, "Größe", add_artifact().id, Workload(batch_size=8), NOON,
        target=Target(TargetMetric.LATENCY, 15.0), guard_rail=0.97, dataset=DatasetRef("d", "reviews", 9, True),
        keep_models=False, extra={"estimate": 3.5, "words": ["a"]},
    )  # fmt: skip
    run = replace(
        new_run("pruning(sparsity=0.3)@eager", experiment), name="n", notes="notes", tags=("a", "b"), attempt=2,
        status=RunStatus.SUCCEEDED, problems=(Problem("StageError", "what"),), measurements=MEASURED,
        facts=(StageFacts("pruning", 1.5, {"before": 9, "ratio": 0.5, "dense": True, "kind": "ffn"}, ("r",)),),
        speedup=Ratio(2.0, (1.9, 2.1)), verdict=Verdict.FASTER, remarks=("why",), environment=ENVIRONMENT,
        started_at=NOON, finished_at=NOON, progress=Progress("measure", 0.5, 3.0),
    )  # fmt: skip
    storage.experiments.create(experiment, [run])
    assert storage.experiments.get(experiment.id) == experiment
    assert storage.runs.get(run.id) == run
    assert storage.runs.of_experiment(experiment.id) == [run]


def test_an_experiment_is_created_whole_or_not_at_all(
    storage: Storage, add_experiment: Callable[..., list[Run]]
) -> None:
    (known,) = add_experiment("")
    experiment = replace(storage.experiments.get(known.experiment_id), id="new")
    with pytest.raises(StorageError):
        storage.experiments.create(experiment, [new_run("", experiment), known])
    with pytest.raises(NotFound):
        storage.experiments.get("new")
    assert storage.experiments.list().total == 1


def test_experiments_are_listed_with_their_counts(storage: Storage, add_experiment: Callable[..., list[Run]]) -> None:
    runs = add_experiment("", "@openvino", "@inductor", name="sweep")
    add_experiment("", name="other")
    _finish(storage, runs[1], Ratio(1.5, (1.4, 1.6)))
    page = storage.experiments.list("sweep")
    assert page.total == 1
    assert page.items[0].counts == {RunStatus.QUEUED: 2, RunStatus.SUCCEEDED: 1}
    assert (page.items[0].runs, page.items[0].best_speedup, page.items[0].artifact_name) == (3, 1.5, "net")


def test_a_wish_to_cancel_lasts_until_more_is_asked(storage: Storage, add_experiment: Callable[..., list[Run]]) -> None:
    (run,) = add_experiment("")
    identity = run.experiment_id
    assert not storage.experiments.cancel_requested(identity)
    storage.experiments.request_cancel(identity)
    assert storage.experiments.cancel_requested(identity)
    storage.experiments.add_runs(identity, [new_run("@openvino", storage.experiments.get(identity))])
    assert not storage.experiments.cancel_requested(identity)
    assert len(storage.runs.of_experiment(identity)) == 2
    assert storage.experiments.cancel_requested("deleted")


def test_unfinished_experiments_are_those_with_open_runs(
    storage: Storage, add_experiment: Callable[..., list[Run]]
) -> None:
    (open_run,), (done,) = add_experiment(""), add_experiment("")
    storage.runs.finish(done.id, 0, RunStatus.CANCELLED)
    assert storage.experiments.unfinished() == [open_run.experiment_id]


def test_rounds_and_logs_come_back_in_order(storage: Storage, add_experiment: Callable[..., list[Run]]) -> None:
    (run,) = add_experiment("")
    attempt = storage.runs.start(run.id)
    rounds = [
        Round(run.id, 0, 0, {"latency": (1.0, 2.5)}),
        Round(run.id, 0, 1, {"latency": (3.0,)}),
        Round(run.id, 1, 0, {}),
    ]
    for each in reversed(rounds):
        assert storage.runs.record_round(each, attempt)
    assert storage.runs.record_round(replace(rounds[1], samples={"latency": (4.0,)}), attempt), "told twice"
    assert storage.runs.rounds(run.id) == [rounds[0], Round(run.id, 0, 1, {"latency": (4.0,)}), rounds[2]]
    storage.runs.append_log(run.id, "one\n\x00")
    storage.runs.append_log(run.id, "two \ud800\n")
    assert storage.runs.log(run.id) == "one\n\N{REPLACEMENT CHARACTER}two ?\n"


def test_intakes_keep_their_state(storage: Storage) -> None:
    job = IntakeJob("i", "model.zip", "uploads/i", "upload", NOON)
    storage.intakes.create(job)
    assert storage.intakes.get("i") == job
    assert storage.intakes.unfinished() == ["i"]
    problem = Problem("IntakeError", "This is not a model.", "Upload another.")
    storage.intakes.update("i", RunStatus.FAILED, problem=problem)
    assert storage.intakes.recent() == [replace(job, status=RunStatus.FAILED, problem=problem)]
    assert storage.intakes.unfinished() == []
    with pytest.raises(NotFound):
        storage.intakes.update("unknown", RunStatus.RUNNING)


def test_a_dataset_keeps_its_file_and_its_ending(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\nfine,1\n")
    reference = DatasetRef("d" * 64, "Reviews", 1, True)
    storage.datasets.add(path, reference)
    storage.datasets.add(path, reference)
    assert storage.datasets.get(reference.id) == reference
    assert storage.datasets.path(reference.id).name == "reviews.csv"
    assert storage.datasets.path(reference.id).read_text() == path.read_text()
    assert [(d.name, d.size_bytes) for d in storage.datasets.list()] == [("Reviews", path.stat().st_size)]
    with pytest.raises(NotFound):
        storage.datasets.path("e" * 64)


def test_hosts_beat_and_leave(storage: Storage) -> None:
    facts = HostFacts("box", "cpu", 2, 8, frozenset({"avx2"}))
    storage.hosts.beat("box", "w1", facts)
    storage.hosts.beat("box", "w2", facts, doing="experiment")
    storage.hosts.beat("box", "w1", facts, doing="intake")
    assert {(b.worker_id, b.doing, b.facts) for b in storage.hosts.list()} == {
        ("w1", "intake", facts),
        ("w2", "experiment", facts),
    }
    storage.hosts.leave("box", "w1")
    assert [b.worker_id for b in storage.hosts.list()] == ["w2"]


def test_a_newer_calibration_replaces_an_older_one(storage: Storage) -> None:
    assert storage.hosts.calibration("box") is None
    peaks = (Peak(Precision.FP32, 1, 5e10), Peak(Precision.FP32, 2, 9e10))
    first = Calibration("box", NOON, ENVIRONMENT, peaks, (Bandwidth(1, 1e10),), 0.02, 15, 0.004)
    for each in (first, replace(first, noise_band=0.01)):
        storage.hosts.calibrate(each)
        assert storage.hosts.calibration("box") == each
    assert first.peak("fp32", 2) == 9e10 and first.peak(Precision.BF16, 2) is None
    assert first.bandwidth(1) == 1e10 and first.bandwidth(2) is None


def test_unknown_ids_say_so(storage: Storage) -> None:
    for ask in (
        storage.experiments.get,
        storage.runs.get,
        storage.runs.start,
        storage.runs.requeue,
        storage.intakes.get,
    ):
        with pytest.raises(NotFound):
            ask("nothing")
    with pytest.raises(NotFound):
        storage.runs.annotate("nothing", name="x")


def _finish(storage: Storage, run: Run, speedup: Ratio, quality: float = 0.995) -> None:
    measured = (Measurement("latency", "ms", 10.0, None, 64), Measurement("quality", "ratio", quality, None, 64))
    attempt = storage.runs.start(run.id)
    assert storage.runs.finish(run.id, attempt, RunStatus.SUCCEEDED, measurements=measured, speedup=speedup)
