"""A causal LM's memory against the length of its context, beside the baseline's."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from engine.domain.evidence import ContextPoint
from pages.parts.charts.style import new_figure
from pages.parts.theme import Palette


def memory_against_context(series: Mapping[str, Sequence[ContextPoint]], palette: Palette) -> go.Figure:
    """One line a series (`this run`, `baseline`); the x axis doubles."""
    figure = new_figure(palette, x_title="context, tokens", y_title="memory, MB \N{DOWNWARDS ARROW} better", height=300)
    colours = [palette.primary if palette.name == "light" else palette.faster, palette.muted]
    for (name, points), colour in zip(series.items(), colours, strict=False):
        figure.add_scatter(
            x=[p.context for p in points], y=[p.memory_bytes / 1e6 for p in points], mode="lines+markers", name=html.escape(name),
            line={"color": colour, "width": 2}, marker={"size": 7, "color": colour},
            customdata=[[p.first_token_ms, p.token_ms] for p in points],
            hovertemplate="%{x} tokens: %{y:.4g} MB<br>first token %{customdata[0]:.3g} ms, each further %{customdata[1]:.3g} ms<extra></extra>",
        )  # fmt: skip
    ticks = sorted({p.context for points in series.values() for p in points})
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[str(t) for t in ticks])
    figure.update_yaxes(rangemode="tozero")
    return figure
