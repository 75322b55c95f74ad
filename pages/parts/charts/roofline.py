"""Operators against the ceilings of a device: FLOP/s over FLOPs a byte."""

from __future__ import annotations

import html
from typing import Any

import plotly.graph_objects as go

from pages.parts.charts.style import new_figure
from pages.parts.format import significant
from pages.parts.theme import Palette

_LEAST = 1e-2


def roofline_figure(data: dict[str, Any], palette: Palette) -> go.Figure:
    """`data` as the attachment `roofline` has it (see engine.techniques.gpu.results)."""
    figure = new_figure(palette, x_title="FLOPs for each byte", y_title="FLOP/s ↑ better")
    points = [p for p in data["points"] if p["intensity"] > _LEAST]
    bandwidth = max(data["ceilings"]["bandwidth"].values())
    for name, peak in data["ceilings"]["compute"].items():
        ridge = peak / bandwidth
        xs = [_LEAST, ridge, max(1e4, ridge * 4)]
        figure.add_scatter(
            x=xs, y=[_LEAST * bandwidth, peak, peak], mode="lines", name=f"peak {name}", line={"width": 1.5, "color": palette.muted},
            hovertext=f"{name}: {significant(peak / 1e12)} T/s, {significant(bandwidth / 1e9)} GB/s", hoverinfo="text",
        )  # fmt: skip
    hollow = data["provenance"] != "measured"
    colours = list(palette.runtimes.values())
    for index, kind in enumerate(dict.fromkeys(p["kind"] for p in points)):
        some = [p for p in points if p["kind"] == kind]
        colour = colours[index % len(colours)]
        figure.add_scatter(
            x=[p["intensity"] for p in some], y=[p["flops_per_second"] for p in some], mode="markers",
            name=f"{kind}, {data['provenance']}",
            marker={"symbol": "diamond-open" if hollow else "circle", "size": [7 + 22 * p["share"] ** 0.5 for p in some], "color": colour, "opacity": 1.0},
            hovertext=[_hover(p, data["provenance"]) for p in some], hoverinfo="text",
        )  # fmt: skip
    figure.update_xaxes(type="log")
    figure.update_yaxes(type="log", exponentformat="SI")
    return figure


def _hover(point: dict[str, Any], provenance: str) -> str:
    return (
        f"<b>{html.escape(point['name'])}</b> ({point['kind']}, {point['pass']})<br>{significant(point['share'] * 100)} % of the call, "
        f"{point['count']} times<br>bound by {point['bound']}, {provenance}"
    )
