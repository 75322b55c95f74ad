"""The look that every figure shares."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from pages.parts.theme import FONT, Palette

HEIGHT = 400

CHART_CONFIG = {"displaylogo": False, "displayModeBar": False}
"""What `st.plotly_chart` gets as `config`."""


def new_figure(palette: Palette, *, x_title: str, y_title: str, height: int = HEIGHT) -> go.Figure:
    """An empty figure in the theme: quiet grid, horizontal legend above, titled axes."""
    figure = go.Figure()
    title_font = {"size": 12, "color": palette.muted}
    axis: dict[str, Any] = {
        "gridcolor": palette.grid, "zeroline": False, "linecolor": palette.border, "ticks": "",
        "tickfont": {"size": 12, "color": palette.muted},
        "automargin": True,
    }  # fmt: skip
    figure.update_layout(
        height=height, margin={"l": 8, "r": 8, "t": 36, "b": 8}, font={"family": FONT, "size": 12, "color": palette.text},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", hovermode="closest",
        hoverlabel={"bgcolor": palette.surface, "bordercolor": palette.border, "font": {"color": palette.text, "size": 12}},
        legend={
            "orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom",
            "font": {"size": 12, "color": palette.muted}, "itemclick": "toggle",
        },
        xaxis={**axis, "title": {"text": x_title, "font": title_font}}, yaxis={**axis, "title": {"text": y_title, "font": title_font}},
    )  # fmt: skip
    return figure
