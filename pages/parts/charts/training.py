"""How a student learnt, and how much each layer suffers when it is cut."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from pages.parts.charts.style import new_figure
from pages.parts.theme import Palette


def held_out_quality(curves: Sequence[Mapping[str, Any]], palette: Palette) -> go.Figure:
    """Quality on the held-out part over minutes of training, a line a training; the best point is marked."""
    metric = html.escape(str(curves[0]["metric"]))
    figure = new_figure(palette, x_title="minutes of training", y_title=f"held-out {metric} ↑ better", height=300)
    for curve, colour in zip(curves, _colours(palette), strict=False):
        points = curve["points"]
        minutes = [point["seconds"] / 60 for point in points]
        quality = [point["quality"] for point in points]
        told = [[point["step"], point["cpu_seconds"] / 60] for point in points]
        name = html.escape(str(curve["title"]))
        figure.add_scatter(
            x=minutes, y=quality, customdata=told, mode="lines+markers", name=name, showlegend=len(curves) > 1,
            line={"color": colour, "width": 2}, marker={"size": 5, "color": colour},
            hovertemplate="step %{customdata[0]}<br>%{x:.3g} min (%{customdata[1]:.3g} min of processor time)<br>%{y:.4f}"
            f"<extra>{name}</extra>",
        )  # fmt: skip
        best = max(range(len(points)), key=lambda i: quality[i])
        figure.add_scatter(
            x=[minutes[best]], y=[quality[best]], mode="markers+text", text=[f"{quality[best]:.3f}"], textposition="top center",
            marker={"size": 10, "color": colour}, textfont={"size": 12, "color": palette.text}, showlegend=False, hoverinfo="skip",
            cliponaxis=False,
        )  # fmt: skip
    return figure


def training_loss(curves: Sequence[Mapping[str, Any]], palette: Palette) -> go.Figure:
    """Mean loss between two looks at the held-out part, on a logarithmic axis."""
    figure = new_figure(palette, x_title="minutes of training", y_title="training loss ↓ better", height=220)
    for curve, colour in zip(curves, _colours(palette), strict=False):
        seen = [point for point in curve["points"] if point["loss"] is not None]
        figure.add_scatter(
            x=[point["seconds"] / 60 for point in seen], y=[point["loss"] for point in seen], mode="lines+markers",
            name=html.escape(str(curve["title"])), showlegend=False, line={"color": colour, "width": 2},
            marker={"size": 5, "color": colour}, hovertemplate="%{x:.3g} min: %{y:.4g}<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(type="log")
    return figure


def sensitivity(data: Mapping[str, Any], palette: Palette) -> go.Figure:
    """A bar a layer: the share proposed for it; lines: what the answers lose at each share tried."""
    places = [html.escape(short_place(place)) for place in data["places"]]
    figure = new_figure(
        palette, x_title=f"what the answers lose, {html.escape(str(data['measure']))} ← better", y_title="",
        height=120 + 30 * len(places),
    )  # fmt: skip
    shades = [palette.muted, palette.faster, palette.slower]
    for column, (share, colour) in enumerate(zip(data["shares"], shades, strict=False)):
        figure.add_scatter(
            x=[row[column] for row in data["damage"]], y=places, mode="markers", name=f"{share:.0%} cut",
            marker={"size": 10, "color": colour, "symbol": ("circle", "diamond", "square")[column % 3]},
            hovertemplate=f"%{{y}}, {share:.0%} cut: %{{x:.4g}}<extra></extra>",
        )  # fmt: skip
    for place, share, row in zip(places, data["proposed"], data["damage"], strict=True):
        figure.add_annotation(
            x=max(row), y=place, text=f"cut {share:.0%}", xanchor="left", xshift=10, showarrow=False,
            font={"size": 12, "color": palette.text},
        )  # fmt: skip
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def short_place(path: str) -> str:
    """`encoder.layer.3.output.dense` as `layer 3`, which a reader can count."""
    number = next((part for part in path.split(".") if part.isdigit()), "")
    return f"layer {number}" if number else path


def _colours(palette: Palette) -> list[str]:
    return [palette.primary if palette.name == "light" else palette.faster, palette.slower, palette.muted, palette.text]
