"""The Gantt chart of a spread model: ranks and microbatches of one call, from real timestamps."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts.charts.style import CHART_CONFIG
from pages.parts.charts.timeline import microbatches, timeline
from pages.parts.theme import palette


def show(data: Any, baseline: Any) -> None:
    """One call as it was watched after the model was cut; a baseline has none."""
    with st.container(border=True):
        st.markdown("**Who computes when**")
        left_out = f" The first {len(data['events'])} events are drawn." if data["left_out"] else ""
        numbers = " Numbers are microbatches." if microbatches(data["events"]) > 1 else ""
        st.caption(
            f"One call of {len(data['ranks'])} ranks by the host's own clock: for {data['communication']:.0%} of it nobody computes, "
            f"and {data['bubble']:.0%} of the ranks' time they wait.{numbers}{left_out}"
        )
        st.plotly_chart(
            timeline(data, palette()), theme=None, key="timeline", config=CHART_CONFIG,
            alt="Bars of computing and sending for each rank over the time of one call",
        )  # fmt: skip
