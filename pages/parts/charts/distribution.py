"""The latency distribution of a run: every sample, its quartiles, the baseline beside it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from pages.parts.charts.style import new_figure
from pages.parts.theme import Palette


def latency_distribution(samples: Mapping[str, Sequence[float]], palette: Palette) -> go.Figure:
    """One row a series (`this run`, `baseline`): box with all its samples, in ms.

    Outliers are marks of their own: flagged, never dropped.
    """
    figure = new_figure(palette, x_title="latency, ms ← better", y_title="", height=110 + 90 * len(samples))
    colours = [palette.primary if palette.name == "light" else palette.faster, palette.muted]
    # Plotly stacks boxes upwards, so the first series is drawn last
    for (name, values), colour in reversed(list(zip(samples.items(), colours, strict=False))):
        figure.add_box(
            x=list(values), name=html.escape(name), orientation="h", boxpoints="suspectedoutliers", jitter=0.4,
            line={"color": colour, "width": 1.5}, marker={"color": colour, "size": 4, "outliercolor": palette.slower},
            showlegend=False, hovertemplate="%{x:.4g} ms<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(showgrid=False)
    return figure


def latency_over_time(samples: Mapping[str, Sequence[float]], palette: Palette) -> go.Figure:
    """Samples in the order they were taken: drift and interruptions show here."""
    figure = new_figure(palette, x_title="sample", y_title="latency, ms ↓ better", height=260)
    colours = [palette.primary if palette.name == "light" else palette.faster, palette.muted]
    for (name, values), colour in zip(samples.items(), colours, strict=False):
        kind = go.Scattergl if len(values) > 2000 else go.Scatter
        figure.add_trace(
            kind(
                y=list(values), mode="markers", name=html.escape(name), marker={"size": 4, "color": colour},
                hovertemplate="sample %{x}: %{y:.4g} ms<extra></extra>",
            )
        )
    return figure
