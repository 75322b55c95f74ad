"""Runs under load: latency against throughput, and throughput against the batch."""

from __future__ import annotations

import html
from collections.abc import Mapping

import plotly.graph_objects as go

from engine.domain.load import LoadPoint, LoadResult, Pattern
from pages.parts.charts.style import new_figure
from pages.parts.theme import Palette

_SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "star")
_FAR = 4.0
"""Latencies beyond so many bounds are drawn at the edge: a queue without end has no height."""


def load_curves(results: Mapping[str, LoadResult], colours: Mapping[str, str], palette: Palette) -> go.Figure:
    """One line a run. All results are of one pattern; `colours` by the same names."""
    pattern = next(iter(results.values())).pattern
    if pattern is Pattern.OFFLINE:
        return _sweep(results, colours, palette)
    return _latency_against_throughput(results, colours, palette)


def _latency_against_throughput(results: Mapping[str, LoadResult], colours: Mapping[str, str], palette: Palette) -> go.Figure:
    first = next(iter(results.values()))
    figure = new_figure(
        palette, x_title="throughput, items/s \N{RIGHTWARDS ARROW} better",
        y_title=f"latency p{first.percentile}, ms \N{DOWNWARDS ARROW} better", height=340,
    )  # fmt: skip
    edge = _FAR * first.bound_ms if first.bound_ms else None
    for index, (name, result) in enumerate(results.items()):
        points = sorted((p for p in result.points if result.percentile in p.latencies), key=lambda p: p.rate or p.throughput)
        heights = [p.latencies[result.percentile] for p in points]
        figure.add_scatter(
            x=[p.throughput for p in points], y=[min(h, edge) if edge else h for h in heights], name=html.escape(name),
            mode="lines+markers" if len(points) > 1 else "markers", line={"color": colours[name], "width": 1.5},
            marker={
                "size": 9, "color": [palette.background if p.meets is False else colours[name] for p in points],
                "line": {"color": colours[name], "width": 1.5}, "symbol": _SYMBOLS[index % len(_SYMBOLS)],
            },
            hovertext=[_told(name, p, result) for p in points], hoverinfo="text",
        )  # fmt: skip
    if first.bound_ms:
        figure.add_hline(
            y=first.bound_ms, line={"dash": "dot", "color": palette.guard_rail, "width": 1.5},
            annotation={"text": f"bound {first.bound_ms:g} ms", "font": {"color": palette.guard_rail, "size": 12}},
        )  # fmt: skip
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(rangemode="tozero")
    return figure


def _sweep(results: Mapping[str, LoadResult], colours: Mapping[str, str], palette: Palette) -> go.Figure:
    figure = new_figure(
        palette, x_title="batch, items", y_title="throughput, items/s \N{UPWARDS ARROW} better", height=340
    )
    for index, (name, result) in enumerate(results.items()):
        points = sorted(result.points, key=lambda p: p.batch)
        figure.add_scatter(
            x=[p.batch for p in points], y=[p.throughput for p in points], name=html.escape(name), mode="lines+markers",
            line={"color": colours[name], "width": 1.5},
            marker={"size": 9, "color": colours[name], "symbol": _SYMBOLS[index % len(_SYMBOLS)]},
            hovertext=[_told(name, p, result) for p in points], hoverinfo="text",
        )  # fmt: skip
    ticks = sorted({p.batch for result in results.values() for p in result.points})
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[str(t) for t in ticks])
    figure.update_yaxes(rangemode="tozero")
    return figure


def _told(name: str, point: LoadPoint, result: LoadResult) -> str:
    parts = [f"<b>{html.escape(name)}</b>", f"{point.throughput:.4g} items/s"]
    parts += [f"p{p}: {latency:.4g} ms" for p, latency in sorted(point.latencies.items())] if result.pattern is not Pattern.OFFLINE else []
    parts += [f"offered {point.rate:.4g} queries/s"] if point.rate else []
    parts.append(f"batch {point.batch}, {point.queries} queries in {point.seconds:.3g} s")
    return "<br>".join(parts)
