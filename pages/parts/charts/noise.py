"""The rounds of a series: the canary's pace and what other processes took."""

from __future__ import annotations

import plotly.graph_objects as go

from engine.domain.noise import MOST_DRIFT, MOST_OTHER_LOAD, SeriesNoise
from pages.parts.charts.style import new_figure
from pages.parts.theme import Palette


def series_noise(noise: SeriesNoise, palette: Palette) -> go.Figure:
    """Drift in percent as bars, other load in cores as a line on its own axis, limits dotted.

    Disturbed rounds are marked by shape and colour.
    """
    figure = new_figure(palette, x_title="round", y_title="canary drift, % ↓ better", height=240)
    rounds = [each.index + 1 for each in noise.rounds]
    disturbed = [bool(noise.disturbances(each)) for each in noise.rounds]
    figure.add_bar(
        x=rounds, y=[100 * each.drift for each in noise.rounds], name="canary drift", width=0.5,
        marker={"color": palette.muted, "cornerradius": 3}, hovertemplate="round %{x}: drift %{y:.1f} %<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=rounds, y=[each.other_load for each in noise.rounds], name="other load, cores ↓ better (right)", mode="lines+markers", yaxis="y2",
        line={"color": palette.primary if palette.name == "light" else palette.faster, "width": 1.5},
        marker={
            "size": 8, "symbol": ["x" if d else "circle" for d in disturbed],
            "color": [palette.slower if d else palette.faster for d in disturbed],
        },
        hovertemplate="round %{x}: %{y:.2f} cores<extra></extra>",
    )  # fmt: skip
    figure.add_hline(y=100 * MOST_DRIFT, line={"dash": "dot", "width": 1, "color": palette.muted})
    most = max((each.other_load for each in noise.rounds), default=0.0)
    figure.update_layout(
        yaxis={"rangemode": "tozero", "range": [0, max(10.0, 110 * max((r.drift for r in noise.rounds), default=0.0))]},
        yaxis2={
            "overlaying": "y", "side": "right", "showgrid": False, "range": [0, max(2 * MOST_OTHER_LOAD, 1.1 * most)],
            "automargin": True, "tickformat": ".1f", "tickfont": {"size": 12, "color": palette.muted},
        },
        xaxis={"dtick": max(1, len(rounds) // 10)},
    )  # fmt: skip
    return figure
