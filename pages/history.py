"""History: what did we ever measure?"""

from __future__ import annotations

import streamlit as st

from pages.parts import history_filters
from pages.parts.format import MISSING, moment, plural, size
from pages.parts.shell import empty_state, page_header, resources
from pages.parts.tables import selection_actions
from pages.parts.wording import recipe_words
from storage.views import Page, RunSummary

PAGE = 100


def render() -> None:
    page_header("History")
    storage = resources().storage
    query = history_filters.show(storage)
    number = max(1, int(st.session_state.get("history_page") or 1))
    page = storage.runs.search(query.filter, query.sort, query.descending, (number - 1) * PAGE, PAGE)
    if not page.items and not query.is_filtered:
        with empty_state("Nothing was measured yet.", "Every run of every experiment will be listed here.", icon=":material/history:"):
            st.page_link("pages/new_experiment.py", label="Start an experiment", icon=":material/add:")
        return
    st.caption(f"{plural(page.total, 'run')}{' found' if query.is_filtered else ''}")
    if page.items:
        _table(page)
    last = max(1, -(-page.total // PAGE))
    if last > 1:
        st.pagination(last, key="history_page", bind="query-params")


def _table(page: Page[RunSummary]) -> None:
    config = st.column_config
    state = st.dataframe(
        [_cells(run) for run in page.items], hide_index=True, row_height=34, on_select="rerun", selection_mode="multi-row",
        key="history_table", placeholder=MISSING, height=min(38 + 35 * len(page.items), 720), alt="Runs",
        column_config={
            "Recipe": config.TextColumn(width="large"),
            "Speedup": config.NumberColumn(format="%.2f×"),
            "Latency, ms": config.NumberColumn(format="%.3g"),
            "Quality": config.NumberColumn(format="%.3f"),
            "Memory, MB": config.NumberColumn(format="%.0f"),
            "Size, MB": config.NumberColumn(format="%.1f"),
            "Tags": config.ListColumn(),
        },
    )  # fmt: skip
    selected = [page.items[i].id for i in state["selection"]["rows"] if i < len(page.items)]
    selection_actions(selected, same_experiment=False)
    if selected:
        _delete(selected)


def _cells(run: RunSummary) -> dict[str, object]:
    return {
        "Recipe": recipe_words(run.recipe, run.runtime) if not run.name else f"{run.name} ({recipe_words(run.recipe, run.runtime)})",
        "Model": run.artifact_name,
        "Status": str(run.status).capitalize(),
        "Speedup": run.speedup,
        "Latency, ms": run.latency,
        "Quality": run.quality,
        "Guard-rail": "" if run.quality is None else "Pass" if run.acceptable else "Fail",
        "Memory, MB": None if run.peak_memory is None else run.peak_memory / 1e6,
        "Size, MB": None if run.size is None else run.size / 1e6,
        "Verdict": str(run.verdict).capitalize() if run.verdict else "",
        "Tags": list(run.tags),
        "Experiment": run.experiment_name,
        "When": moment(run.created_at, st.context.timezone),
    }


def _delete(run_ids: list[str]) -> None:
    runs = resources().storage.runs
    with st.popover(f"Delete {plural(len(run_ids), 'run')}", icon=":material/delete:"):
        st.markdown(f"Frees {size(runs.space(run_ids))}. Their numbers and models are gone for good.")
        if st.button("Delete", type="primary", key="delete_runs"):
            freed = runs.delete(run_ids)
            st.toast(f"Deleted; {size(freed)} freed.", icon=":material/delete:")
            st.rerun()


render()
