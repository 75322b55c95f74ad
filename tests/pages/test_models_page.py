"""The models page: empty, with models, with uploads that go or fail; a model's own page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from engine.domain.errors import Problem
from engine.domain.experiment import Progress, RunStatus
from engine.settings import Settings
from pages.http import uploads
from storage import IntakeJob, Storage
from tests.pages.conftest import words_of
from tests.pages.seed import seed_artifact, seed_experiment

Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "ensure_worker", lambda settings: True)


def job(home: Storage, id: str = "job", **changes: object) -> IntakeJob:
    made = IntakeJob(id, "My model", "/nowhere", "my.zip", datetime.now(UTC))
    home.intakes.create(made)
    if changes:
        home.intakes.update(id, **changes)  # type: ignore[arg-type]
    return made


def test_an_empty_home_teaches_and_its_one_button_takes_a_sample(home: Storage, open_page: Open) -> None:
    app = open_page("models")
    assert "No models yet" in words_of(app)
    app.button(key="try_sample").click().run()
    (started,) = home.intakes.recent()
    assert (started.source, started.status) == ("sample", RunStatus.QUEUED)
    assert "Waiting for the worker" in str([p.proto.text for p in app.get("progress")])


def test_models_are_listed_with_what_was_learned(home: Storage, open_page: Open) -> None:
    seed_experiment(home, seed_artifact(home, "Fast *one*"))
    seed_artifact(home, "Other")
    app = open_page("models")
    words = words_of(app)
    assert "2 models" in words
    assert "Text encoder · Hugging Face · 22.7 M parameters · 90.9 MB" in words
    assert "3.87×" in words and "best of 11 runs" in words
    labels = [link.proto.label for link in app.get("page_link")]
    assert "**Fast \\*one\\***" in labels


def test_search_and_pages(home: Storage, open_page: Open) -> None:
    for number in range(25):
        seed_artifact(home, f"model no{number:02}")
    assert "25 models" in words_of(open_page("models"))
    links = [link.proto.label for link in open_page("models", query={"page": "2"}).get("page_link")]
    assert sum("model " in label for label in links) == 5
    assert "1 model" in words_of(open_page("models", query={"q": "model no07"}))


def test_an_intake_shows_its_progress(home: Storage, open_page: Open) -> None:
    job(home, status=RunStatus.RUNNING, progress=Progress("unpacking", 0.4, 12.0))
    app = open_page("models")
    (bar,) = app.get("progress")
    assert (bar.proto.value, bar.proto.text) == (40, "Unpacking, 12 s left")


def test_a_failed_intake_says_what_and_what_to_do_until_dismissed(home: Storage, open_page: Open) -> None:
    job(home, status=RunStatus.FAILED, problem=Problem("IntakeError", "It is *cut* off.", "Copy it again.", "a.bin", "trace"))
    app = open_page("models")
    assert "a.bin: It is *cut* off." in words_of(app) and "Copy it again." in words_of(app)
    assert "trace" in words_of(app)
    app.button(key="dismiss_job").click().run()
    assert "cut" not in words_of(app)


def test_a_link_out_of_the_allowed_folders_is_refused(home: Storage, open_page: Open, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "config.json").write_text("{}")
    link = settings.home / "models" / "link"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "secret")
    app = open_page("models")
    app.selectbox(key="server_path").set_value(str(link)).run()
    app.button(key="add_server_path").click().run()
    assert home.intakes.recent() == []
    assert "SPEEDRAIL_MODEL_ROOTS" in words_of(app)


def test_a_server_path_inside_is_taken_in(home: Storage, open_page: Open, settings: Settings) -> None:
    folder = settings.home / "models" / "bert"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    app = open_page("models")
    assert app.selectbox(key="server_path").options == [str(folder)]
    app.selectbox(key="server_path").set_value(str(folder)).run()
    app.button(key="add_server_path").click().run()
    assert [j.path for j in home.intakes.recent()] == [str(folder)]


def test_a_models_page_shows_its_card(home: Storage, open_page: Open) -> None:
    artifact = seed_artifact(home, "MiniLM")
    app = open_page("models", query={"id": artifact.id})
    assert {m.label: m.value for m in app.metric} == {
        "Parameters": "22.7 M", "Size": "90.9 MB", "Best speedup": "–", "Runs": "0",
    }  # fmt: skip
    assert artifact.id in words_of(app) and "BertModel" in words_of(app)
    tensors = app.dataframe[0].value
    assert list(tensors["Name"]) == ["input_ids", "attention_mask", "last_hidden_state"]


def test_renaming(home: Storage, open_page: Open) -> None:
    artifact = seed_artifact(home, "Old")
    app = open_page("models", query={"id": artifact.id})
    app.text_input[0].set_value("New")
    app.form_submit_button[0].click().run()
    assert home.artifacts.get(artifact.id).name == "New"
    assert app.title[0].value == "New"


def test_deleting_a_model_with_runs_needs_a_second_tick(home: Storage, open_page: Open) -> None:
    artifact = seed_artifact(home)
    seed_experiment(home, artifact)
    app = open_page("models", query={"id": artifact.id})
    assert "holds 2 bytes and has 11 runs" in words_of(app)
    assert app.button(key="delete_model").disabled
    app.checkbox(key="delete_runs").check().run()
    app.button(key="delete_model").click().run()
    assert home.artifacts.list().total == 0
    assert "No models yet" in words_of(app)


def test_an_unknown_model_is_a_problem_not_a_crash(open_page: Open) -> None:
    app = open_page("models", query={"id": "f" * 64})
    assert "There is no artifact" in words_of(app)
