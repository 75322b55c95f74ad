"""Run: what happened to this model, and where does the time go?"""

from __future__ import annotations

import streamlit as st

from engine.domain.errors import SpeedrailError
from engine.domain.experiment import Run, RunStatus
from engine.launch import REPEATABLE, repeat
from pages.parts import run_detail
from pages.parts.download import download_button
from pages.parts.format import moment
from pages.parts.shell import Badge, Crumb, page_header, resources, show_problem
from pages.parts.wording import recipe_words

_COLOURS = {RunStatus.SUCCEEDED: "blue", RunStatus.PROJECTED: "violet", RunStatus.FAILED: "red", RunStatus.RUNNING: "blue"}


def render() -> None:
    run_id = st.query_params.get("id", "")
    storage = resources().storage
    try:
        run = storage.runs.get(run_id)
        experiment = storage.experiments.get(run.experiment_id)
        artifact = storage.artifacts.get(run.artifact_id)
    except SpeedrailError as error:
        page_header("Run", [Crumb("History", "history.py")])
        show_problem(error)
        return
    actions = page_header(
        run.name or recipe_words(run.recipe, run.runtime),
        [
            Crumb("Experiments", "experiment.py"),
            Crumb(experiment.name, "experiment.py", {"id": experiment.id}),
        ],
        _badges(run, artifact.name),
    )
    with actions:
        _actions(run)
    for problem in run.problems:
        show_problem(problem)
    baseline = next((r for r in storage.runs.of_experiment(experiment.id) if r.is_baseline), None)
    run_detail.show(run, baseline if baseline and baseline.id != run.id else None, experiment.guard_rail)


def _badges(run: Run, artifact: str) -> list[Badge]:
    badges = [
        Badge(str(run.status).capitalize(), colour=_COLOURS.get(run.status, "gray")),  # type: ignore[arg-type]
        Badge(artifact, ":material/deployed_code:"),
        Badge(run.recipe or "baseline", ":material/receipt_long:"),
    ]
    if run.finished_at:
        badges.append(Badge(moment(run.finished_at, st.context.timezone), ":material/schedule:"))
    return badges


def _actions(run: Run) -> None:
    if run.status in REPEATABLE and st.button("Repeat", icon=":material/replay:", type="primary", key="repeat"):
        repeat(resources().storage, resources().queue, run.id)
        st.switch_page("pages/experiment.py", query_params={"id": run.experiment_id})
    if run.lowered_id:
        download_button(run)


render()
