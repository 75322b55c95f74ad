"""All experiments, the newest first."""

from __future__ import annotations

import streamlit as st

from engine.domain.experiment import RunStatus
from pages.parts.format import ago, plain, plural, ratio
from pages.parts.shell import empty_state, page_header, resources
from storage.views import ExperimentSummary

_PAGE = 25


def show() -> None:
    actions = page_header("Experiments")
    with actions:
        if st.button("New experiment", type="primary", icon=":material/add:", key="new_experiment"):
            st.switch_page("pages/new_experiment.py")
    text = st.text_input(
        "Search", placeholder="Search experiments by name or model", icon=":material/search:", label_visibility="collapsed",
        key="q", bind="query-params",
    )  # fmt: skip
    page = int(st.query_params.get("page", "1") or 1)
    found = resources().storage.experiments.list(text or "", (page - 1) * _PAGE, _PAGE)
    if not found.items:
        _empty(text or "")
        return
    for summary in found.items:
        _one(summary)
    _pages(page, found.total)


def _empty(text: str) -> None:
    if text:
        st.caption("No experiment has these words.")
        return
    with empty_state(
        "No experiments yet.", "An experiment measures recipes on one model, side by side with its baseline.",
        icon=":material/science:",
    ):  # fmt: skip
        st.page_link("pages/new_experiment.py", label="Start the first one", icon=":material/add:")


def _one(summary: ExperimentSummary) -> None:
    experiment = summary.experiment
    with st.container(border=True, gap="xxsmall"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.page_link(
                "pages/experiment.py", label=f"**{plain(experiment.name)}**", query_params={"id": experiment.id}, width="content"
            )
            best = f"{ratio(summary.best_speedup)} best" if summary.best_speedup else _state(summary)
            st.badge(best, color="blue" if summary.best_speedup else "gray")
        st.caption(f"{plain(summary.artifact_name)} · {_counts(summary)} · {ago(experiment.created_at)}")


def _state(summary: ExperimentSummary) -> str:
    unfinished = sum(n for status, n in summary.counts.items() if not status.is_final)
    return "running" if unfinished else "no gain"


def _counts(summary: ExperimentSummary) -> str:
    words = [f"{n} {status}" for status, n in sorted(summary.counts.items()) if n and status is not RunStatus.SUCCEEDED]
    return ", ".join([plural(summary.runs, "run"), *words])


def _pages(page: int, total: int) -> None:
    last = max(1, -(-total // _PAGE))
    if last == 1:
        return
    chosen = st.pagination(last, default=page, key="experiment_pages")
    if chosen != page:
        st.query_params["page"] = str(chosen)
        st.rerun()
