"""Roofline: each operator against what the host or the device could do at best."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.domain.codec import from_data
from engine.domain.metrics import Provenance
from engine.domain.roofline import Roofline
from pages.parts.charts.roofline import drawable, roofline_figure
from pages.parts.charts.style import CHART_CONFIG
from pages.parts.format import percent, plain
from pages.parts.theme import palette


def draw(data: Any, baseline: Any) -> None:
    own = from_data(Roofline, data)
    if not drawable(own):
        return
    with st.container(border=True):
        st.markdown(f"**{plain(_sentence(own))}**")
        st.caption(plain(_reading(own)))
        st.plotly_chart(
            roofline_figure(own, palette()), theme=None, key="roofline", config=CHART_CONFIG,
            alt=f"Roofline of {own.device} with the operators of a call",
        )  # fmt: skip


def _sentence(own: Roofline) -> str:
    longest = drawable(own)[0]
    took = "takes" if own.provenance is Provenance.MEASURED else "would take"
    if longest.bound == "launch":
        return f"{longest.name} {took} {percent(longest.share)} of a call, most of it for launching, {own.provenance}"
    return (
        f"{longest.name} {took} {percent(longest.share)} of a call and reaches {percent(own.reached(longest))} of its ceiling, "
        f"which is {_CEILINGS[longest.bound]}, {own.provenance}"
    )


_CEILINGS = {"compute": "the arithmetic", "memory": "the memory"}


def _reading(own: Roofline) -> str:
    """How to read it, and what is not in it."""
    hollow = "" if own.provenance is Provenance.MEASURED else " Marks are hollow, because nothing was measured."
    above = {p.bound for p in drawable(own) if own.reached(p) > 1}
    cached = " Above the slope: its data came out of a cache." if "memory" in above else ""
    busy = (
        " Above the flat part: its kernel beats those by which ceilings are measured, or the host was busy meanwhile."
        if "compute" in above else ""
    )  # fmt: skip
    return (
        f"Lines are the ceilings of {own.device}, {own.source}: left of the bend the memory, right of it the arithmetic. The larger a "
        f"mark, the more of a call it takes; {percent(sum(p.share for p in drawable(own)))} of a call is drawn, the rest does no "
        f"arithmetic or tells no shapes.{hollow}{cached}{busy}"
    )
