"""Operators under the ceilings of a host or a device: FLOP/s over FLOPs a byte."""

from __future__ import annotations

import html
from collections.abc import Sequence
from math import ceil, floor, log10

import plotly.graph_objects as go

from engine.domain.metrics import Provenance
from engine.domain.roofline import Roofline, RooflinePoint
from pages.parts.charts.style import new_figure
from pages.parts.format import percent, significant
from pages.parts.theme import Palette

_LEAST_SHARE = 0.001
"""Of a call: below it a mark says nothing and crowds the others."""
_KINDS = {"matmul": "products", "conv2d": "convolutions", "attention": "attention"}
_OTHERS = "pointwise and others"
_MARGIN = 5
"""Room beside the outermost marks, where the ceilings are named."""


def drawable(data: Roofline) -> Sequence[RooflinePoint]:
    """The points that do arithmetic and take a noticeable part of a call, the longest first."""
    return [p for p in data.points if p.intensity > 0 and p.share >= _LEAST_SHARE]


def roofline_figure(data: Roofline, palette: Palette) -> go.Figure:
    """Ceilings as lines, operators as marks: hollow where nothing was measured."""
    figure = new_figure(palette, x_title="FLOPs for each byte →", y_title="FLOP/s ↑ better", height=440)
    points = drawable(data)
    bandwidth = max(data.ceilings.bandwidth.values())
    ridges = [peak / bandwidth for peak in data.ceilings.compute.values()]
    left, right = min([p.intensity for p in points] + ridges) / _MARGIN, max([p.intensity for p in points] + ridges) * _MARGIN
    for name, peak in sorted(data.ceilings.compute.items(), key=lambda item: item[1]):
        figure.add_scatter(
            x=[left, peak / bandwidth, right], y=[left * bandwidth, peak, peak], mode="lines", showlegend=False,
            line={"width": 1.5, "color": palette.muted}, hoverinfo="skip",
        )  # fmt: skip
        figure.add_annotation(
            x=log10(right), y=log10(peak), text=f"{name} {_pace(peak, name)}", showarrow=False, xanchor="right", yanchor="bottom",
            font={"size": 11, "color": palette.muted},
        )  # fmt: skip
    figure.add_annotation(
        x=log10(left), y=log10(left * bandwidth), text=f" memory {significant(bandwidth / 1e9)} GB/s", showarrow=False, xanchor="left",
        yanchor="top", font={"size": 11, "color": palette.muted},
    )  # fmt: skip
    symbol = "circle" if data.provenance is Provenance.MEASURED else "diamond-open"
    colours = dict(zip((*_KINDS.values(), _OTHERS), palette.runtimes.values(), strict=True))
    for words, colour in colours.items():
        some = [p for p in points if _KINDS.get(p.kind, _OTHERS) == words]
        if some:
            figure.add_scatter(
                x=[p.intensity for p in some], y=[p.flops_per_second for p in some], mode="markers", name=words,
                marker={
                    "symbol": symbol, "size": [8 + 22 * p.share**0.5 for p in some], "color": colour, "opacity": 0.85,
                    "line": {"width": 1.5, "color": colour},
                },
                hovertext=[_hover(p, data) for p in some], hoverinfo="text",
            )  # fmt: skip
    lowest = min([p.flops_per_second for p in points] + [left * bandwidth])
    highest = max([p.flops_per_second for p in points] + list(data.ceilings.compute.values()))
    figure.update_xaxes(type="log", range=[log10(left), log10(right)], dtick=1)
    decades = range(floor(log10(lowest)), ceil(log10(highest * 1.5)) + 1)
    figure.update_yaxes(
        type="log", range=[decades[0], decades[-1]], tickvals=[10.0**d for d in decades], ticktext=[_decade(d) for d in decades]
    )
    return figure


def _decade(exponent: int) -> str:
    """`100 G` of 10¹¹."""
    return f"{10 ** (exponent % 3)} {('', 'k', 'M', 'G', 'T', 'P')[exponent // 3]}"


def _pace(per_second: float, format: str) -> str:
    """`157 GFLOP/s`; integers are no floating-point operations."""
    unit = "OP/s" if format.startswith("int") else "FLOP/s"
    return f"{significant(per_second / 1e12)} T{unit}" if per_second >= 1e12 else f"{significant(per_second / 1e9)} G{unit}"


def _hover(point: RooflinePoint, data: Roofline) -> str:
    where = f", {point.phase}" if point.phase else ""
    return (
        f"<b>{html.escape(point.name)}</b> ({html.escape(point.kind)}{where})<br>{percent(point.share, 1)} of a call, {point.count} times<br>"
        f"{_pace(point.flops_per_second, point.format)}{f' in {html.escape(point.format)}' if point.format else ''}, "
        f"{percent(data.reached(point))} of its ceiling<br>waits for: {point.bound}, {data.provenance}"
    )
