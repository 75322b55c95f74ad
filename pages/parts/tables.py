"""Tables of runs: what each column says and what a selection offers."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from engine.domain.experiment import Run
from pages.parts.comparison import Row
from pages.parts.format import plus_minus

_VERDICT_COLOURS = {
    "Baseline": "gray", "Faster": "blue", "Slower": "orange", "Not distinguishable": "gray", "Below guard-rail": "orange",
    "Noisy": "yellow",
}  # fmt: skip


def runs_table(rows: Sequence[Row], key: str) -> list[Row]:
    """The delta table against the baseline; returns the selected rows."""
    fastest = max([1.0, *(row.speedup or 0.0 for row in rows)])
    state = st.dataframe(
        [_cells(row) for row in rows], hide_index=True, key=key, on_select="rerun", selection_mode="multi-row",
        row_height=34, column_config=_columns(fastest), height=min(38 + 35 * max(len(rows), 1), 640),
        placeholder="–", alt="Runs with speedup, latency, quality, memory and verdict",
    )  # fmt: skip
    return [rows[i] for i in state["selection"]["rows"] if i < len(rows)]


def selection_actions(run_ids: Sequence[str], *, same_experiment: bool) -> None:
    """What can be done with selected runs: open one, compare several."""
    if not run_ids:
        st.caption("Select rows to open a run or to compare several.")
        return
    with st.container(horizontal=True):
        if len(run_ids) == 1 and st.button("Open run", icon=":material/open_in_new:", key="open_selected"):
            st.switch_page("pages/run.py", query_params={"id": run_ids[0]})
        if len(run_ids) > 1 and st.button(f"Compare {len(run_ids)} runs", icon=":material/compare_arrows:", key="compare_selected"):
            st.switch_page("pages/compare.py", query_params={"runs": ",".join(run_ids)})
        if len(run_ids) == 1 and same_experiment:
            st.caption("Select a second row to see what differs.")


def _cells(row: Row) -> dict[str, object]:
    run = row.run
    return {
        "Recipe": row.words,
        "Speedup": row.speedup,
        "95 % CI": plus_minus(run.speedup) if not run.is_baseline else "",
        "Latency, ms": run.value("latency"),
        "Quality": row.quality,
        "Guard-rail": row.guard_rail,
        "Memory, MB": _megabytes(run, "peak_memory"),
        "Size, MB": _megabytes(run, "size"),
        "Verdict": [word for word in (row.verdict, "Noisy" if run.is_noisy else "") if word],
        "Provenance": str(row.run.provenance).capitalize(),
    }


def _megabytes(run: Run, metric: str) -> float | None:
    value = run.value(metric)
    return None if value is None else value / 1e6


def _columns(fastest: float) -> dict[str, ColumnConfig]:
    config = st.column_config
    return {
        "Recipe": config.TextColumn(width="large"),
        "Speedup": config.ProgressColumn(format="%.2f×", min_value=0.0, max_value=fastest, width="medium"),
        "95 % CI": config.TextColumn(width="small", alignment="right"),
        "Latency, ms": config.NumberColumn(format="%.3g"),
        "Quality": config.NumberColumn(format="%.3f"),
        "Guard-rail": config.TextColumn(width="small"),
        "Memory, MB": config.NumberColumn(format="%.0f"),
        "Size, MB": config.NumberColumn(format="%.1f"),
        "Verdict": config.MultiselectColumn(options=list(_VERDICT_COLOURS), color=list(_VERDICT_COLOURS.values())),
        "Provenance": config.TextColumn(width="small"),
    }
