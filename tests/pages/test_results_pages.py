"""Experiment, run, history and compare pages on a seeded home, through Streamlit's AppTest."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from engine.domain.experiment import Experiment
from engine.settings import Settings
from storage import Storage, open_storage
from tests.pages.seed import seed_artifact, seed_experiment

ROOT = Path(__file__).parents[2]


@pytest.fixture
def storage(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setenv("SPEEDRAIL_HOME", str(settings.home))
    return open_storage(settings)


@pytest.fixture
def experiment(storage: Storage) -> Experiment:
    return seed_experiment(storage, seed_artifact(storage))


def open_page(name: str, **query: str) -> AppTest:
    """The page as the dashboard shows it, by its address."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.switch_page(f"pages/{name}.py")
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception, app.exception
    return app


def text_of(app: AppTest) -> str:
    return " ".join(
        str(element.value) for kind in ("markdown", "caption", "title", "subheader", "error", "warning") for element in getattr(app, kind)
    ).replace("\\", "")


def test_the_first_sentence_names_the_fastest_recipe_that_meets_target_and_guard_rail(experiment: Experiment) -> None:
    app = open_page("experiment", id=experiment.id)
    assert "quantization int8 · openvino is the fastest recipe that meets latency ≤ 15 ms" in text_of(app)
    assert {m.label: m.value for m in app.metric}["Speedup"] == "3.87×"
    (table,) = (d.value for d in app.dataframe if "Recipe" in d.value.columns)
    assert list(table["Recipe"])[0] == "quantization int8 · openvino"
    assert len(table) == 9


def test_refused_and_failed_runs_say_why(experiment: Experiment) -> None:
    words = text_of(open_page("experiment", id=experiment.id))
    assert "onnxruntime has no bf16 for a text encoder. Choose @openvino." in words
    assert "The compiler ran out of memory. Use a smaller batch." in words


def test_an_unfinished_experiment_shows_progress_and_can_be_cancelled(storage: Storage) -> None:
    experiment = seed_experiment(storage, seed_artifact(storage), finished=False)
    app = open_page("experiment", id=experiment.id)
    assert "Waiting for the worker" in text_of(app)
    app.button(key="cancel_experiment").click().run()
    assert storage.experiments.cancel_requested(experiment.id)


def test_an_unknown_experiment_is_a_clear_error(storage: Storage) -> None:
    app = open_page("experiment", id="nothing")
    assert len(app.error) == 1


def test_no_experiments_yet_teaches_what_to_do(storage: Storage) -> None:
    assert "No experiments yet" in text_of(open_page("experiment"))


def test_a_run_shows_its_stages_and_takes_a_name(storage: Storage, experiment: Experiment) -> None:
    run = storage.runs.of_experiment(experiment.id)[3]
    app = open_page("run", id=run.id)
    assert "1. pruning" in text_of(app)
    next(i for i in app.text_input if i.label == "Name").set_value("the good one")
    next(i for i in app.text_input if i.label.startswith("Tags")).set_value("ship, ship, v2")
    app.button[-1].click().run()
    changed = storage.runs.get(run.id)
    assert changed.name == "the good one"
    assert changed.tags == ("ship", "v2")


def test_history_finds_sorts_and_says_when_there_is_nothing(storage: Storage, experiment: Experiment) -> None:
    app = open_page("history", text="int8", sort="Speedup")
    (table,) = (d.value for d in app.dataframe)
    assert list(table["Speedup"].dropna()) == sorted(table["Speedup"].dropna(), reverse=True)
    assert len(table) == 4
    assert "0 runs found" in text_of(open_page("history", text="unobtainium"))


def test_compare_shows_what_differs(storage: Storage, experiment: Experiment) -> None:
    runs = storage.runs.of_experiment(experiment.id)[:4]
    app = open_page("compare", runs=",".join(r.id for r in runs))
    differing = app.dataframe[1].value
    assert "quantization: format" in list(differing["What"])
    assert "Choose runs to compare" in text_of(open_page("compare"))


def test_hostile_names_stay_words(storage: Storage) -> None:
    artifact = seed_artifact(storage, name="![x](http://127.0.0.1/leak) <script>alert(1)</script>")
    experiment = seed_experiment(storage, artifact)
    app = open_page("experiment", id=experiment.id)
    assert not any("![x](http" in str(m.value) or "<script>" in str(m.value) for m in (*app.markdown, *app.caption, *app.title))
