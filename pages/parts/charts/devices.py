"""One model on every device: projected latency against power or energy, recipes as series."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from math import log10

import plotly.graph_objects as go

from engine.hardware.projection import Projection
from pages.parts.charts.style import new_figure
from pages.parts.format import significant
from pages.parts.theme import Palette

_AXES = {"power": "board power, W ← better", "energy": "energy, J per item ← better"}
_SYMBOLS = ("diamond-open", "triangle-up-open")
"""Hollow, as all that was not measured; a second one when the colours are used up."""


def devices_figure(series: Mapping[str, Sequence[Projection]], against: str, palette: Palette) -> go.Figure:
    """Hollow marks, because nothing was measured; what does not fit into memory is left out; the fastest is named. At most eight series."""
    figure = new_figure(palette, x_title=_AXES[against], y_title="projected latency, ms ↓ better", height=440)
    looks = [(colour, symbol) for symbol in _SYMBOLS for colour in palette.runtimes.values()]
    for (words, projections), (colour, symbol) in zip(series.items(), looks, strict=False):
        shown = [p for p in projections if p.fits]
        milliseconds = [p.latency * 1e3 for p in shown]
        figure.add_scatter(
            x=[_cost(p, against) for p in shown], y=milliseconds, mode="markers", name=f"{words}, projected",
            marker={"symbol": symbol, "size": 10, "color": colour, "line": {"width": 1.5, "color": colour}},
            error_y={
                "type": "data", "symmetric": False, "thickness": 1, "width": 0, "color": colour,
                "array": [p.high * 1e3 - y for p, y in zip(shown, milliseconds, strict=True)],
                "arrayminus": [y - p.low * 1e3 for p, y in zip(shown, milliseconds, strict=True)],
            },
            hovertext=[_hover(words, p) for p in shown], hoverinfo="text",
        )  # fmt: skip
    fitting = [p for projections in series.values() for p in projections if p.fits]
    if fitting:
        fastest = min(fitting, key=lambda p: p.latency)
        costs = [log10(_cost(p, against)) for p in fitting]
        x = log10(_cost(fastest, against))
        figure.add_annotation(
            x=x, y=log10(fastest.latency * 1e3), text=html.escape(fastest.device.name), ay=28, ax=0,
            xanchor="left" if 2 * x < min(costs) + max(costs) else "right", arrowwidth=1, arrowcolor=palette.muted, showarrow=True,
            arrowhead=0, font={"size": 12, "color": palette.text},
        )  # fmt: skip
    figure.update_xaxes(type="log", dtick="D2", tickformat="~g")
    figure.update_yaxes(type="log", dtick="D2", tickformat="~g")
    return figure


def _cost(projection: Projection, against: str) -> float:
    if against == "power":
        return projection.device.power_watts
    return (projection.joules_low + projection.joules_high) / 2 / projection.items


def _hover(words: str, p: Projection) -> str:
    return "<br>".join(
        [
            f"<b>{html.escape(p.device.name)}</b>, {html.escape(words)}",
            f"{significant(p.latency * 1e3)} ms ({significant(p.low * 1e3)} to {significant(p.high * 1e3)}), projected",
            f"{significant(p.throughput)} items/s, bound by {p.bound}, products in {p.arithmetic}",
            f"{p.memory.total / 1e9:.2f} of {p.device.memory_bytes / 1e9:.0f} GB",
        ]
    )
