"""The form: good from the start, derived from the catalogue, its state in the address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import pytest
from streamlit.testing.v1 import AppTest

from engine import catalogue
from engine.domain.experiment import RunStatus
from engine.domain.knobs import Config, knob
from engine.domain.recipe import TechniqueId
from engine.domain.technique import Family, Obstacle, Phase, Situation, TechniqueSpec
from engine.domain.workload import Target, TargetMetric
from engine.host import this_host
from engine.suggest import suggested_recipes
from pages.parts import launching
from storage import Storage
from tests.pages.conftest import words_of
from tests.pages.seed import CARD, seed_artifact

Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "ensure_worker", lambda settings: True)


def recipes_of(app: AppTest) -> list[str]:
    """The recipes offered and ticked."""
    return [c.key.removeprefix("include_") for c in app.checkbox if c.key and c.key.startswith("include_") and c.value]


def launched(home: Storage) -> dict[str, RunStatus]:
    (summary,) = home.experiments.list().items
    return {run.recipe: run.status for run in home.runs.of_experiment(summary.experiment.id)}


def test_without_a_model_the_page_leads_to_one(open_page: Open) -> None:
    app = open_page("new_experiment")
    assert "There is no model to try things on yet" in words_of(app)
    assert [b.label for b in app.button] == ["Go to Models"]


def test_pressing_only_the_primary_button_launches_the_suggestions(home: Storage, open_page: Open) -> None:
    artifact = seed_artifact(home)
    suggested = [str(recipe) for recipe in suggested_recipes(CARD, this_host())]
    assert len(suggested) == 6
    app = open_page("new_experiment")
    assert recipes_of(app) == suggested
    assert app.button(key="launch").label == "Launch 7 runs"
    app.button(key="launch").click().run()
    assert set(launched(home)) == {"", *suggested}
    assert home.experiments.list().items[0].experiment.artifact_id == artifact.id
    assert app.title[0].value.startswith("MiniLM")


def test_ticks_and_several_values_make_a_grid(home: Storage, open_page: Open) -> None:
    seed_artifact(home)
    app = open_page(
        "new_experiment",
        query={
            "suggested": "false", "pruning": "true", "quantization": "true", "pruning.sparsity": ["0.2", "0.5"],
            "runtimes": "openvino",
        },
    )  # fmt: skip
    assert set(recipes_of(app)) == {
        "@openvino",
        "pruning(sparsity=0.2)@openvino",
        "pruning(sparsity=0.5)@openvino",
        "quantization(format=int8)@openvino",
        "pruning(sparsity=0.2)+quantization(format=int8)@openvino",
        "pruning(sparsity=0.5)+quantization(format=int8)@openvino",
    }
    words = words_of(app)
    assert "7 runs, about" in words
    assert "2. Quantization: format int8. Pruning scores weights in full precision" in words


def test_another_model_of_the_task_may_be_the_student(home: Storage, open_page: Open) -> None:
    teacher = seed_artifact(home)
    app = open_page("new_experiment", query={"suggested": "false", "distillation": "true"})
    assert not [m for m in app.multiselect if m.key == "distillation.student"]
    student = seed_artifact(home, name="Smaller", card=replace(CARD, parameters=CARD.parameters // 2))
    chosen = {"distillation": "true", "distillation.student": f"Smaller {student.short_id}"}
    app = open_page("new_experiment", query={"artifact": teacher.id, "suggested": "false"} | chosen)
    assert recipes_of(app) == [f"distillation(student={student.short_id})"]
    assert "Layers" not in [m.label for m in app.multiselect]


def test_ticking_a_technique_adds_its_recipe(home: Storage, open_page: Open) -> None:
    seed_artifact(home)
    app = open_page("new_experiment")
    before = len(recipes_of(app))
    app.checkbox(key="pruning").check().run()
    assert len(recipes_of(app)) == before + 1


def test_leaving_a_recipe_out_stays_in_the_address(home: Storage, open_page: Open) -> None:
    seed_artifact(home)
    app = open_page("new_experiment")
    first = recipes_of(app)[0]
    app.checkbox(key=f"include_{first}").uncheck().run()
    assert app.query_params["without"] == first
    assert app.button(key="launch").label == "Launch 6 runs"
    app.button(key="launch").click().run()
    assert first not in launched(home)


def test_refused_recipes_are_named_with_reason_and_mend_and_not_launched(home: Storage, open_page: Open) -> None:
    seed_artifact(home)
    app = open_page("new_experiment", query={"recipes": "quantization(format=int4)@openvino\npruning(target=channels)"})
    words = words_of(app)
    assert "openvino has no int4 for a text encoder.] Choose another format." in words
    assert "BertModel has no convolution channels.] Choose target=ffn or target=heads." in words
    assert "2 refused and left out" in words
    app.button(key="launch").click().run()
    assert len(launched(home)) == 7


def test_words_that_are_no_recipe_say_so(home: Storage, open_page: Open) -> None:
    seed_artifact(home)
    app = open_page("new_experiment", query={"recipes": "pruning(sparsity=2)\nnonsense()\n@openvino"})
    words = words_of(app)
    assert "sparsity=2.0 is out of range" in words
    assert "There is no technique 'nonsense'" in words


def test_goal_and_workload_reach_the_experiment(home: Storage, open_page: Open) -> None:
    seed_artifact(home)
    app = open_page(
        "new_experiment", query={"target": "size", "bound_size": "40", "guard_rail": "0.95", "batch_size": "8", "name": "Mine"}
    )
    app.button(key="launch").click().run()
    experiment = home.experiments.list().items[0].experiment
    assert experiment.target == Target(TargetMetric.SIZE, 40e6)
    assert (experiment.guard_rail, experiment.workload.batch_size, experiment.name) == (0.95, 8, "Mine")


def test_the_model_named_in_the_address_is_chosen_even_among_equal_names(home: Storage, open_page: Open) -> None:
    wanted = seed_artifact(home, "Twin")
    seed_artifact(home, "Twin")
    app = open_page("new_experiment", query={"artifact": wanted.id})
    app.button(key="launch").click().run()
    assert home.experiments.list().items[0].experiment.artifact_id == wanted.id


class Strength(StrEnum):
    LIGHT = "light"
    HEAVY = "heavy"


@dataclass(frozen=True, slots=True, kw_only=True)
class EighthConfig(Config):
    strength: Strength = knob(Strength.LIGHT, help="How hard")
    ratio: float = knob(0.5, low=0.0, high=1.0, help="How much", unit="%", shown_when={"strength": ("heavy",)})
    depth: int = knob(2, low=1, high=9, help="How deep", grid=(2, 4))
    exact: bool = knob(False, help="Whether to be exact")


def no_obstacles(config: object, situation: Situation) -> list[Obstacle]:
    return []


EIGHTH = TechniqueSpec(
    id=TechniqueId("eighth"), title="The Eighth", family=Family.DISTRIBUTED, phase=Phase.SPREAD, summary="Only in this test.",
    config=EighthConfig, implementation="nowhere:Nothing", obstacles=no_obstacles,
)  # fmt: skip


@pytest.fixture
def eighth(monkeypatch: pytest.MonkeyPatch) -> None:
    techniques = (*catalogue.TECHNIQUES, EIGHTH)
    for module in ("engine.catalogue", "engine.grammar", "engine.suggest"):
        monkeypatch.setattr(f"{module}.TECHNIQUES", techniques)


@pytest.mark.usefixtures("eighth")
def test_an_eighth_technique_appears_with_its_family_and_knobs(home: Storage, open_page: Open) -> None:
    seed_artifact(home)
    app = open_page(
        "new_experiment", query={"suggested": "false", "eighth": "true", "eighth.depth": ["2", "4"], "eighth.strength": "heavy"}
    )
    words = words_of(app)
    assert "Distributed parallel inference" in words and "Only in this test." in words
    labels = {w.label for kind in ("button_group", "multiselect") for w in getattr(app, kind)}
    assert {"Strength", "Ratio (%)", "Depth", "Exact"} <= labels
    assert recipes_of(app) == ["eighth(strength=heavy)", "eighth(strength=heavy, depth=4)"]


@pytest.mark.usefixtures("eighth")
def test_a_knob_without_effect_is_hidden(home: Storage, open_page: Open) -> None:
    seed_artifact(home)
    app = open_page("new_experiment", query={"eighth": "true"})
    assert "Ratio (%)" not in {w.label for w in app.multiselect}
