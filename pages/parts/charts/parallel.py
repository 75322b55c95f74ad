"""Parallel coordinates: chosen runs over several metrics at once (Compare)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from engine.domain.metrics import METRICS
from pages.parts.charts.style import new_figure
from pages.parts.theme import Palette

MOST_LINES = 500
"""Plotly draws this many at once in reasonable time."""


@dataclass(frozen=True, slots=True)
class Line:
    """One run: metric name to value."""

    words: str
    values: dict[str, float]


def parallel_coordinates(lines: Sequence[Line], metrics: Sequence[str], palette: Palette) -> go.Figure:
    """Axes are metrics in their own units; lines are coloured by the first metric.

    Runs without a value for one of the metrics are left out.
    """
    whole = [line for line in lines[:MOST_LINES] if all(name in line.values for name in metrics)]
    figure = new_figure(palette, x_title="", y_title="", height=360)
    figure.add_parcoords(
        dimensions=[
            {"label": _label(name), "values": [line.values[name] / _divisor(name) for line in whole]} for name in metrics
        ],
        line={
            "color": [line.values[metrics[0]] for line in whole],
            "colorscale": [[0, palette.muted], [1, palette.faster]],
        },
        labelfont={"size": 12, "color": palette.text}, tickfont={"size": 12, "color": palette.muted},
        # the ends' numbers would lie under the labels, and the ticks say the same
        rangefont={"size": 12, "color": "rgba(0,0,0,0)"}, labelside="top", labelangle=-25,
    )  # fmt: skip
    figure.update_layout(margin={"l": 60, "r": 60, "t": 96, "b": 24})
    return figure


def _divisor(name: str) -> float:
    return 1e6 if _unit(name) == "bytes" else 1.0


def _unit(name: str) -> str:
    return METRICS[name].unit if name in METRICS else "×"


def _label(name: str) -> str:
    title = METRICS[name].title if name in METRICS else name.capitalize()
    unit = "MB" if _unit(name) == "bytes" else _unit(name)
    return f"{title}, {unit}"
