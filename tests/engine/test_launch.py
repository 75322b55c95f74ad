from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.domain.artifact import Artifact, ArtifactFormat, ModelCard, TaskId, TensorSpec
from engine.domain.errors import InvalidInput
from engine.domain.experiment import RunStatus
from engine.domain.recipe import Recipe
from engine.domain.workload import Workload
from engine.grammar import parse_recipe
from engine.launch import add_recipes, launch, repeat
from engine.queue import Queue
from engine.settings import Settings
from storage import Storage, open_storage

ENCODER = ModelCard(
    format=ArtifactFormat.HUGGINGFACE,
    task=TaskId.TEXT_ENCODER,
    architecture="BertModel",
    parameters=1000,
    dtype="float32",
    inputs=(TensorSpec("input_ids", "int64", ("batch", "sequence")),),
    operators={"Linear": 12},
    hidden_size=32,
    intermediate_size=64,
    num_layers=2,
    num_heads=4,
    vocab_size=260,
    max_positions=512,
    has_tokenizer=True,
)


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return open_storage(settings)


@pytest.fixture
def queue(settings: Settings) -> Queue:
    return Queue(settings)


@pytest.fixture
def artifact(storage: Storage, tmp_path: Path) -> Artifact:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    storage.files.put_file("a" * 64, tmp_path / "model.safetensors")
    return storage.artifacts.add(Artifact("a" * 64, "tiny", 7, datetime.now(UTC), ENCODER))


def recipes(*texts: str) -> list[Recipe]:
    return [parse_recipe(text) for text in texts]


def test_baseline_comes_first_and_equal_recipes_make_one_run(
    storage: Storage, queue: Queue, artifact: Artifact
) -> None:
    wanted = recipes(
        "quantization(format=int8)@openvino",
        "quantization+pruning(sparsity=0.3)@openvino",
        "",
        "quantization@openvino",
        "pruning+quantization(format=int8)@openvino",
    )
    experiment = launch(storage, queue, artifact, Workload(), wanted, name="mine", guard_rail=0.98)
    runs = storage.runs.of_experiment(experiment.id)
    assert [run.recipe for run in runs] == [
        "",
        str(parse_recipe("quantization(format=int8)@openvino")),
        str(parse_recipe("pruning+quantization@openvino")),
    ]
    assert [run.runtime for run in runs] == ["eager", "openvino", "openvino"]
    assert {run.status for run in runs} == {RunStatus.QUEUED}
    assert experiment.id in queue.active()
    assert storage.experiments.get(experiment.id) == experiment
    assert experiment.guard_rail == 0.98


def test_what_cannot_run_is_stored_as_refused_with_its_reason(
    storage: Storage, queue: Queue, artifact: Artifact
) -> None:
    experiment = launch(storage, queue, artifact, Workload(), recipes("pruning(target=channels)@openvino"))
    baseline, refused = storage.runs.of_experiment(experiment.id)
    assert baseline.status is RunStatus.QUEUED
    assert refused.status is RunStatus.REFUSED
    assert refused.problems and refused.problems[0].what and refused.problems[0].kind == "Refused"


def test_a_recipe_without_a_runtime_gets_one_that_takes_it(storage: Storage, queue: Queue, artifact: Artifact) -> None:
    """Eager has no calibrated scales for an encoder."""
    wanted = recipes("quantization(format=int8)", "quantization(format=int8, mode=static)", "quantization(format=int8, mode=static)@openvino")
    experiment = launch(storage, queue, artifact, Workload(), wanted)
    runs = storage.runs.of_experiment(experiment.id)
    assert [(run.recipe, run.runtime) for run in runs] == [
        ("", "eager"), ("quantization(format=int8)", "eager"), ("quantization(format=int8, mode=static)@openvino", "openvino")
    ]  # fmt: skip
    assert add_recipes(storage, queue, experiment.id, recipes("quantization(format=int8, mode=static)")) == []


def test_without_a_queue_nothing_is_enqueued(storage: Storage, queue: Queue, artifact: Artifact) -> None:
    experiment = launch(storage, None, artifact, Workload(), [])
    assert experiment.id not in queue.active()
    assert storage.experiments.unfinished() == [experiment.id]


def test_a_guard_rail_outside_its_range_is_bad_input(storage: Storage, queue: Queue, artifact: Artifact) -> None:
    with pytest.raises(InvalidInput, match="guard-rail"):
        launch(storage, queue, artifact, Workload(), [], guard_rail=99)


def test_added_recipes_leave_out_those_that_are_there(storage: Storage, queue: Queue, artifact: Artifact) -> None:
    experiment = launch(storage, None, artifact, Workload(), recipes("@openvino"))
    added = add_recipes(storage, queue, experiment.id, recipes("", "@openvino", "@onnxruntime", "@onnxruntime"))
    assert [run.recipe for run in added] == ["@onnxruntime"]
    assert [r.recipe for r in storage.runs.of_experiment(experiment.id)] == ["", "@openvino", "@onnxruntime"]
    assert experiment.id in queue.active()
    assert add_recipes(storage, queue, experiment.id, recipes("@openvino")) == []


def test_a_failed_run_is_queued_again_with_the_baseline_it_needs(
    storage: Storage, queue: Queue, artifact: Artifact
) -> None:
    experiment = launch(storage, None, artifact, Workload(), recipes("@openvino"))
    for run in storage.runs.of_experiment(experiment.id):
        storage.runs.finish(run.id, storage.runs.start(run.id), RunStatus.FAILED)
    baseline, failed = storage.runs.of_experiment(experiment.id)
    repeat(storage, queue, failed.id)
    assert storage.runs.get(failed.id).status is RunStatus.QUEUED
    assert storage.runs.get(baseline.id).status is RunStatus.QUEUED
    assert experiment.id in queue.active()


def test_a_succeeded_run_cannot_be_repeated(storage: Storage, queue: Queue, artifact: Artifact) -> None:
    experiment = launch(storage, None, artifact, Workload(), [])
    (baseline,) = storage.runs.of_experiment(experiment.id)
    storage.runs.finish(baseline.id, storage.runs.start(baseline.id), RunStatus.SUCCEEDED)
    with pytest.raises(InvalidInput, match="succeeded"):
        repeat(storage, queue, baseline.id)
