"""Uploads on their way to becoming models: progress while they go, a clear problem when they fail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import streamlit as st

from engine.domain.experiment import RunStatus
from pages.parts.format import ago, duration, plain
from pages.parts.shell import resources, show_problem
from storage import IntakeJob

_SHOWN_FOR = timedelta(hours=24)
_WATCHED = "watched_intakes"
_DISMISSED = "dismissed_intakes"


def show() -> None:
    """The jobs that go and those that failed lately; looks again every second while one goes."""
    going = [job for job in _recent() if not job.status.is_final]
    st.fragment(_panel, run_every=1.0 if going else None)()


def watch(job_id: str) -> None:
    """Say so when this job ends, and draw the list anew."""
    st.session_state.setdefault(_WATCHED, set()).add(job_id)


def _panel() -> None:
    jobs = _recent()
    watched: set[str] = st.session_state.setdefault(_WATCHED, set())
    watched |= {job.id for job in jobs if not job.status.is_final}
    ended = [job for job in jobs if job.id in watched and job.status.is_final]
    if ended:
        watched -= {job.id for job in ended}
        for job in ended:
            _announce(job)
        st.rerun()
    for job in jobs:
        if not job.status.is_final:
            _going(job)
        elif job.status is not RunStatus.SUCCEEDED and job.id not in st.session_state.get(_DISMISSED, set()):
            _failed(job)


def _recent() -> list[IntakeJob]:
    since = datetime.now(UTC) - _SHOWN_FOR
    return [job for job in resources().storage.intakes.recent() if _aware(job.created_at) > since]


def _aware(when: datetime) -> datetime:
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _announce(job: IntakeJob) -> None:
    if job.status is RunStatus.SUCCEEDED:
        st.toast(f"{plain(job.name)} is ready.", icon=":material/check_circle:")


def _going(job: IntakeJob) -> None:
    progress = job.progress
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"**{plain(job.name)}**")
        if progress is None:
            st.progress(0.0, text="Waiting for the worker")
            return
        left = f", {duration(progress.seconds_left)} left" if progress.seconds_left is not None else ""
        st.progress(min(max(progress.fraction, 0.0), 1.0), text=f"{plain(progress.stage.capitalize())}{left}")


def _failed(job: IntakeJob) -> None:
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown(f"**{plain(job.name)}** could not be taken in, {ago(job.created_at)}", width="content")
            if st.button("Dismiss", key=f"dismiss_{job.id}", type="tertiary"):
                st.session_state.setdefault(_DISMISSED, set()).add(job.id)
                st.rerun(scope="fragment")
        if job.problem:
            show_problem(job.problem)
