"""A student that was uploaded: what cannot learn from the model is refused, what can is taught and measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId, TensorSpec
from engine.domain.experiment import RunStatus
from engine.domain.metrics import QUALITY
from engine.execution.execute import run_experiment
from engine.grammar import parse_recipe
from engine.host import this_host
from engine.launch import launch
from engine.plan import make_plan
from engine.settings import Settings
from storage import Storage
from tests.engine.conftest import QUICK, keep
from tests.models import tiny_bert, tiny_card

ID = "0123456789ab"
RECIPE = f"distillation(student={ID})"


def _card(directory: Path) -> ModelCard:
    return replace(tiny_card(directory), has_tokenizer=True)


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelCard, ModelCard]:
    """A teacher and a student of half its layers."""
    folder = tmp_path_factory.mktemp("cards")
    return _card(tiny_bert(folder / "teacher", layers=4)), _card(tiny_bert(folder / "student"))


def test_a_recipe_says_nothing_of_layers_that_are_not_cut() -> None:
    assert str(parse_recipe(RECIPE)) == RECIPE
    assert str(parse_recipe("distillation()")) == "distillation(layers=0.5)"


def test_a_smaller_model_with_the_same_answers_may_learn(cards: tuple[ModelCard, ModelCard]) -> None:
    teacher, student = cards
    assert make_plan(parse_recipe(RECIPE), teacher, this_host(), {ID: student}).refusals == ()


@pytest.mark.parametrize(
    ("recipe", "changes", "says"),
    [
        (f"distillation(student={ID}, width=0.5)", {}, "learns as it is"),
        ("distillation(student=0123)", {}, "There is no uploaded model 0123. Upload"),
        ("distillation(student=ffffffffffff)", {}, "There is no uploaded model"),
        (RECIPE, {"format": ArtifactFormat.GGUF}, "Choose a Hugging Face directory"),
        (RECIPE, {"task": TaskId.CAUSAL_LM}, "for the same task"),
        (RECIPE, {"inputs": (TensorSpec("input_ids", "int64", ("batch", "sequence")),)}, "The student takes input_ids, this model"),
        (RECIPE, {"vocab_size": 999}, "999 tokens"),
        (RECIPE, {"outputs": (TensorSpec("last_hidden_state", "float32", ("batch", "sequence", 16)),)}, "last_hidden_state of 16"),
        (RECIPE, {"parameters": 10**9}, "Choose a smaller student"),
    ],
)
def test_what_cannot_learn_is_refused(cards: tuple[ModelCard, ModelCard], recipe: str, changes: dict[str, object], says: str) -> None:
    teacher, student = cards
    refused = make_plan(parse_recipe(recipe), teacher, this_host(), {ID: replace(student, **changes), "0123": student}).refusals
    assert any(says in str(obstacle) for obstacle in refused), refused


def test_it_learns_and_is_measured_against_its_teacher(storage: Storage, settings: Settings, tmp_path: Path) -> None:
    teacher, student = (keep(tiny_bert(tmp_path / name, layers=layers), storage) for name, layers in (("teacher", 4), ("student", 2)))
    recipe = parse_recipe(f"distillation(student={student.id[:12]}, steps=10, sentences=0)@onnxruntime")
    workload = replace(QUICK, sequence_length=32)
    experiment = launch(storage, None, teacher, workload, [recipe, parse_recipe("distillation(student=ffffffffffff)")])
    run_experiment(experiment.id, storage, settings, lambda run, progress: None)
    _, taught, unknown = storage.runs.of_experiment(experiment.id)
    assert unknown.status is RunStatus.REFUSED and "no uploaded model" in str(unknown.problems[0])
    assert taught.status is RunStatus.SUCCEEDED, taught.problems
    facts = taught.facts[0].facts
    assert facts["student"] == student.id[:12] and facts["parameters_before"] > facts["parameters_after"]  # type: ignore[operator]
    assert (facts["layers_before"], facts["layers_after"]) == (4, 2)
    assert facts["held_out_after"] > facts["held_out_before"]  # type: ignore[operator]
    assert 0 < (taught.value(QUALITY.name) or 0) < 1


def test_other_words_are_said(storage: Storage, settings: Settings, tmp_path: Path) -> None:
    directory = tiny_bert(tmp_path / "student")
    file = directory / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    words = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = dict(zip(words, [*list(words.values())[1:], 0], strict=True))
    file.write_text(json.dumps(tokenizer))
    teacher, student = keep(tiny_bert(tmp_path / "teacher", layers=4), storage), keep(directory, storage)
    recipe = parse_recipe(f"distillation(student={student.id[:12]}, steps=2, sentences=0)@onnxruntime")
    experiment = launch(storage, None, teacher, replace(QUICK, sequence_length=32), [recipe])
    run_experiment(experiment.id, storage, settings, lambda run, progress: None)
    (failed,) = [run for run in storage.runs.of_experiment(experiment.id) if not run.is_baseline]
    assert failed.status is RunStatus.FAILED and "tokenizer has other words" in str(failed.problems[0])
