"""Compare: how do these runs differ?"""

from __future__ import annotations

import streamlit as st

from engine.domain.errors import SpeedrailError
from engine.domain.experiment import Run
from engine.domain.metrics import METRICS
from pages.parts import compare_runs as parts
from pages.parts.charts.parallel import Line, parallel_coordinates
from pages.parts.charts.style import CHART_CONFIG
from pages.parts.shell import Crumb, empty_state, page_header, resources, show_problem
from pages.parts.theme import palette
from pages.parts.wording import recipe_words

MOST_RUNS = 50
_AXES = ("speedup", "latency", "quality", "peak_memory", "size")


def render() -> None:
    page_header("Compare", [Crumb("History", "history.py")])
    ids = [i for i in st.query_params.get("runs", "").split(",") if i][:MOST_RUNS]
    if len(ids) < 2:
        with empty_state("Choose runs to compare.", "Select two or more rows in History or in an experiment.", icon=":material/compare_arrows:"):
            st.page_link("pages/history.py", label="Open History", icon=":material/history:")
        return
    try:
        runs = [resources().storage.runs.get(i) for i in ids]
    except SpeedrailError as error:
        show_problem(error)
        return
    unlike = parts.refused(runs)
    experiments = {r.experiment_id: resources().storage.experiments.get(r.experiment_id) for r in runs}
    parts.metrics_table(runs, [experiments[r.experiment_id].guard_rail for r in runs], comparable=not unlike)
    if not unlike:
        _parallel(runs)
    parts.differences(runs)


def _parallel(runs: list[Run]) -> None:
    lines = [Line(recipe_words(r.recipe, r.runtime), _values(r)) for r in runs]
    axes = [a for a in _AXES if all(a in line.values for line in lines)]
    if len(axes) > 1 and len(lines) > 2:
        with st.container(border=True):
            st.markdown("**Each line is a run; drag along an axis to keep part of it**")
            st.plotly_chart(
                parallel_coordinates(lines, axes, palette()), theme=None, key="parallel", config=CHART_CONFIG,
                alt="Parallel coordinates of the chosen runs",
            )  # fmt: skip


def _values(run: Run) -> dict[str, float]:
    values = {name: v for name in METRICS if (v := run.value(name)) is not None}
    if run.speedup:
        values["speedup"] = run.speedup.median
    elif run.is_baseline:
        values["speedup"] = 1.0
    return values


render()
