"""While an experiment runs: each run's stage, percent and time left, and the way to stop it."""

from __future__ import annotations

import streamlit as st

from engine.domain.experiment import Run, RunStatus
from pages.parts.format import duration, plain, plural
from pages.parts.shell import resources
from pages.parts.wording import recipe_words

_EVERY_SECONDS = 1.0


def show(experiment_id: str) -> None:
    """A panel that refreshes itself; the page reruns once whenever a run ends."""
    st.session_state[f"ended-{experiment_id}"] = _ended(resources().storage.runs.of_experiment(experiment_id))
    _panel(experiment_id)


@st.fragment(run_every=_EVERY_SECONDS)
def _panel(experiment_id: str) -> None:
    storage = resources().storage
    runs = storage.runs.of_experiment(experiment_id)
    ended = _ended(runs)
    if ended != st.session_state.get(f"ended-{experiment_id}"):
        if ended == len(runs):
            st.toast("The experiment has finished.", icon=":material/done_all:")
        st.rerun()
    cancelling = storage.experiments.cancel_requested(experiment_id)
    with st.container(border=True):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.markdown(f"**{_headline(runs, ended, cancelling=cancelling)}**", width="content")
            if st.button("Cancel", icon=":material/stop_circle:", disabled=cancelling, key="cancel_experiment"):
                storage.experiments.request_cancel(experiment_id)
                st.rerun(scope="fragment")
        for run in runs:
            if not run.status.is_final:
                _one(run)


def _ended(runs: list[Run]) -> int:
    return sum(run.status.is_final for run in runs)


def _headline(runs: list[Run], ended: int, *, cancelling: bool) -> str:
    if cancelling:
        return "Stopping"
    if all(run.status is RunStatus.QUEUED for run in runs if not run.status.is_final) and ended < len(runs):
        return f"Waiting for the worker: {plural(len(runs) - ended, 'run')} to go"
    return f"Running: {ended} of {plural(len(runs), 'run')} finished"


def _one(run: Run) -> None:
    words = plain(recipe_words(run.recipe, run.runtime))
    if run.progress is None:
        st.progress(0.0, text=f"{words} · waiting")
        return
    left = f", about {duration(run.progress.seconds_left)} left" if run.progress.seconds_left else ""
    fraction = min(max(run.progress.fraction, 0.0), 1.0)
    st.progress(fraction, text=f"{words} · {plain(run.progress.stage)} {fraction:.0%}{left}")
