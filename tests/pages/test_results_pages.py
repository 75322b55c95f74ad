"""Experiment, run, history and compare pages on a seeded home, through Streamlit's AppTest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from engine.domain.experiment import Experiment
from pages.parts.run_detail import _fact
from storage import Storage
from tests.pages.conftest import words_of
from tests.pages.seed import ENVIRONMENT, seed_artifact, seed_experiment

OpenPage = Callable[..., AppTest]


@pytest.fixture
def experiment(home: Storage) -> Experiment:
    return seed_experiment(home, seed_artifact(home))


def test_the_first_sentence_names_the_fastest_recipe_that_meets_target_and_guard_rail(experiment: Experiment, open_page: OpenPage) -> None:
    app = open_page("experiment", query={"id": experiment.id})
    assert "quantization int8 · openvino is the fastest recipe that meets latency ≤ 15 ms" in words_of(app)
    assert {m.label: m.value for m in app.metric}["Speedup"] == "3.87×"
    (table,) = (d.value for d in app.dataframe if "Recipe" in d.value.columns)
    assert next(iter(table["Recipe"])) == "quantization int8 · openvino"
    assert len(table) == 9


def test_a_run_below_the_guard_rail_reads_so_however_fast_it_is(experiment: Experiment, open_page: OpenPage) -> None:
    app = open_page("experiment", query={"id": experiment.id})
    (table,) = (d.value for d in app.dataframe if "Recipe" in d.value.columns)
    (pruned,) = (row for _, row in table.iterrows() if row["Recipe"].startswith("pruning") and row["Speedup"] == 1.74)
    assert (pruned["Guard-rail"], list(pruned["Verdict"])) == ("Fail", ["Below guard-rail"])


def test_refused_and_failed_runs_say_why(experiment: Experiment, open_page: OpenPage) -> None:
    words = words_of(open_page("experiment", query={"id": experiment.id}))
    assert "onnxruntime has no bf16 for a text encoder. Choose @openvino." in words
    assert "The compiler ran out of memory. Use a smaller batch." in words


def test_an_unfinished_experiment_shows_progress_and_can_be_cancelled(home: Storage, open_page: OpenPage) -> None:
    experiment = seed_experiment(home, seed_artifact(home), finished=False)
    app = open_page("experiment", query={"id": experiment.id})
    assert "Waiting for the worker" in words_of(app)
    app.button(key="cancel_experiment").click().run()
    assert home.experiments.cancel_requested(experiment.id)


def test_an_unknown_experiment_is_a_clear_error(home: Storage, open_page: OpenPage) -> None:
    app = open_page("experiment", query={"id": "nothing"})
    assert len(app.error) == 1


def test_no_experiments_yet_teaches_what_to_do(home: Storage, open_page: OpenPage) -> None:
    assert "No experiments yet" in words_of(open_page("experiment"))


def test_a_run_shows_its_stages_and_takes_a_name(home: Storage, experiment: Experiment, open_page: OpenPage) -> None:
    run = home.runs.of_experiment(experiment.id)[3]
    app = open_page("run", query={"id": run.id})
    assert "1. pruning" in words_of(app)
    next(i for i in app.text_input if i.label == "Name").set_value("the good one")
    next(i for i in app.text_input if i.label.startswith("Tags")).set_value("ship, ship, v2")
    app.button[-1].click().run()
    changed = home.runs.get(run.id)
    assert changed.name == "the good one"
    assert changed.tags == ("ship", "v2")


def test_what_was_counted_has_no_decimals() -> None:
    assert [_fact("layers", value) for value in (0, 12, 41_920)] == ["0", "12", "41\N{NARROW NO-BREAK SPACE}920"]
    assert _fact("share", 0.25) == "0.2500"


def test_a_run_tells_what_disturbed_it_and_which_percentiles_it_can_give(home: Storage, experiment: Experiment, open_page: OpenPage) -> None:
    run = home.runs.of_experiment(experiment.id)[3]
    app = open_page("run", query={"id": run.id})
    words = words_of(app)
    assert "Quiet enough: 2 of 10 rounds disturbed" in words and "other load in 2" in words and "drift in 1" in words
    assert "Noise band ± 1.9 %" in words and "A/A check: not distinguishable" in words
    assert "needs 542 more samples" in words and "p50" in words
    assert "none dropped" in words or "no outliers" in words
    assert any(f"/samples/{run.id}" in link.proto.url for link in app.get("link_button"))


def test_runs_of_unlike_environments_are_not_compared(home: Storage, experiment: Experiment, open_page: OpenPage) -> None:
    other = seed_experiment(home, seed_artifact(home, "other"), environment=replace(ENVIRONMENT, threads=1))
    ids = [home.runs.of_experiment(e.id)[1].id for e in (experiment, other)]
    app = open_page("compare", query={"runs": ",".join(ids)})
    assert "unlike environments" in app.error[0].value
    differing, metrics, *_ = (d.value for d in app.dataframe)
    assert list(differing["What"]) == ["threads"]
    assert "Latency" not in set(metrics["Metric"]) and "Quality retained" in set(metrics["Metric"])
    alike = [r.id for r in home.runs.of_experiment(experiment.id)[1:3]]
    app = open_page("compare", query={"runs": ",".join(alike)})
    assert not app.error
    assert "Latency" in {m for d in app.dataframe if "Metric" in d.value.columns for m in d.value["Metric"]}


def test_history_finds_sorts_and_says_when_there_is_nothing(home: Storage, experiment: Experiment, open_page: OpenPage) -> None:
    app = open_page("history", query={"text": "int8", "sort": "Speedup"})
    (table,) = (d.value for d in app.dataframe)
    assert list(table["Speedup"].dropna()) == sorted(table["Speedup"].dropna(), reverse=True)
    assert len(table) == 4
    assert "0 runs found" in words_of(open_page("history", query={"text": "unobtainium"}))


def test_compare_shows_what_differs(home: Storage, experiment: Experiment, open_page: OpenPage) -> None:
    runs = home.runs.of_experiment(experiment.id)[:4]
    app = open_page("compare", query={"runs": ",".join(r.id for r in runs)})
    differing = app.dataframe[1].value
    assert "quantization: format" in list(differing["What"])
    assert "Choose runs to compare" in words_of(open_page("compare"))


def test_hostile_names_stay_words(home: Storage, open_page: OpenPage) -> None:
    artifact = seed_artifact(home, name="![x](http://127.0.0.1/leak) <script>alert(1)</script>")
    experiment = seed_experiment(home, artifact)
    app = open_page("experiment", query={"id": experiment.id})
    assert not any("![x](http" in str(m.value) or "<script>" in str(m.value) for m in (*app.markdown, *app.caption, *app.title))


def test_a_run_shows_where_its_time_goes_and_what_it_does_under_load(home: Storage, experiment: Experiment, open_page: OpenPage) -> None:
    run = home.runs.of_experiment(experiment.id)[3]
    app = open_page("run", query={"id": run.id})
    words = words_of(app)
    assert "Most of a call goes to linear" in words and "of the baseline's to linear 79 %" in words
    (types,) = (d.value for d in app.dataframe if "Baseline, ms" in d.value.columns)
    assert list(types["Operator"]) == ["linear", "softmax", "between operators"]
    assert "Under load: server" in words and "queries a second arrive at random with latency p90 within 100 ms" in words
    assert "Under load: server" in words_of(open_page("experiment", query={"id": experiment.id}))


def test_pass_or_fail_is_said_wherever_quality_is(home: Storage, experiment: Experiment, open_page: OpenPage) -> None:
    runs = home.runs.of_experiment(experiment.id)
    failing = next(r for r in runs if r.recipe == "pruning(sparsity=0.3)@openvino")
    app = open_page("experiment", query={"id": experiment.id})
    (table,) = (d.value for d in app.dataframe if "Guard-rail" in d.value.columns)
    assert set(table["Guard-rail"]) == {"Pass", "Fail"}
    (listed,) = (d.value for d in open_page("history", query={"text": "pruning"}).dataframe)
    assert "Fail" in set(listed["Guard-rail"])
    side = open_page("compare", query={"runs": f"{runs[0].id},{failing.id}"}).dataframe[0].value
    assert list(side[side["Metric"] == "Guard-rail"].iloc[0])[1:] == ["Pass (at least 0.990)", "Fail (at least 0.990)"]
