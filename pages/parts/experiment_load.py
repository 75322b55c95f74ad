"""What all runs of an experiment do under load, in one plot."""

from __future__ import annotations

import streamlit as st

from engine.domain.codec import from_data
from engine.domain.load import LoadResult, Pattern
from pages.parts.attachments.load import caption, sentence, words
from pages.parts.charts.load import load_curves
from pages.parts.comparison import Comparison
from pages.parts.format import plain
from pages.parts.shell import resources
from pages.parts.theme import palette

_MOST = 10
"""Lines in one plot; the best runs come first."""
_CONFIG = {"displaylogo": False, "displayModeBar": False}


def show(comparison: Comparison) -> None:
    """Nothing where the workload has no pattern beyond single-stream."""
    if comparison.experiment.workload.pattern is Pattern.SINGLE_STREAM:
        return
    results, colours = _results(comparison)
    if not results:
        return
    passing = {row.words for row in comparison.succeeded if row.acceptable}
    # what fails the guard-rail is drawn, but not boasted of
    named = {name: result for name, result in results.items() if name in passing} or results
    name, best = max(named.items(), key=lambda item: item[1].best.throughput if item[1].best else 0.0)
    st.subheader(f"Under load: {words(best.pattern)}", anchor=False)
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"**{plain(name)}**: {plain(sentence(best))}")
        st.plotly_chart(
            load_curves(results, colours, palette()), theme=None, config=_CONFIG, key="load-curves", alt=f"{name}: {sentence(best)}"
        )
        st.caption(caption(best))


def _results(comparison: Comparison) -> tuple[dict[str, LoadResult], dict[str, str]]:
    """Load results and colours by the runs' words; the baseline among them."""
    look, storage = palette(), resources().storage
    rows = sorted(comparison.succeeded, key=lambda row: not row.run.is_baseline)[:_MOST]
    results: dict[str, LoadResult] = {}
    colours: dict[str, str] = {}
    for row in rows:
        data = storage.runs.attachments(row.run.id).get("load")
        if data:
            results[row.words] = from_data(LoadResult, data)
            colours[row.words] = look.muted if row.run.is_baseline else look.runtimes.get(row.run.runtime, look.neutral)
    return results, colours
