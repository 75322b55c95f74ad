"""Roofline: each operator against what the device could do at best."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts.charts.roofline import roofline_figure
from pages.parts.format import plain, significant
from pages.parts.theme import palette


def draw(data: Any, baseline: Any) -> None:
    st.subheader(f"Roofline, {data['provenance']}", anchor=False)
    longest = data["points"][0]
    st.markdown(
        f"**On {plain(data['device'])} {plain(longest['name'])} would take {significant(longest['share'] * 100)} % of the time, "
        f"bound by {longest['bound']}.**"
    )
    st.plotly_chart(roofline_figure(data, palette()), theme=None, key="roofline", config={"displayModeBar": False})
    st.caption("Lines are the published ceilings; the larger a mark, the more of the call it takes. Marks of what was not measured are hollow.")
