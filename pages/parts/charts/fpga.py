"""Figures of a placement on an FPGA: time of each layer, roofline, resources."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

import plotly.graph_objects as go

from engine.fpga.synthesis import PathStep
from pages.parts.charts.style import new_figure
from pages.parts.format import percent, significant
from pages.parts.theme import Palette

BOUNDS = {"compute": "array", "memory": "memory", "host": "host"}
_PATTERNS = {"compute": "", "memory": "/", "host": "."}
_SYMBOLS = {"simulated": "square-open", "projected": "diamond-open"}


def layer_times(layers: Sequence[Mapping[str, Any]], palette: Palette) -> go.Figure:
    """A bar for each layer in the order of computing, in ms; hue and pattern say what it waits for."""
    figure = new_figure(palette, x_title="layer, in the order of computing", y_title="latency, ms ↓ better", height=320)
    for bound, words in BOUNDS.items():
        chosen = [(i, layer) for i, layer in enumerate(layers, start=1) if layer["bound"] == bound]
        if chosen:
            figure.add_bar(
                x=[i for i, _ in chosen], y=[layer["seconds"] * 1e3 for _, layer in chosen], name=f"waits for the {words}",
                marker={"color": _hue(bound, palette), "pattern": {"shape": _PATTERNS[bound]}}, width=0.9,
                hovertext=[_layer_words(layer) for _, layer in chosen], hoverinfo="text",
            )  # fmt: skip
    figure.update_layout(bargap=0.05, barmode="overlay")
    return figure


def roofline(
    layers: Sequence[Mapping[str, Any]], peak: float, bandwidth: float, provenance: str, palette: Palette
) -> go.Figure:
    """Products a second against products a byte, both logarithmic; the roof is the lower of array and memory."""
    figure = new_figure(palette, x_title="multiplications per byte of memory →", y_title="G multiplications/s ↑ better")
    known = [layer for layer in layers if layer["macs"] and layer["bytes"]]
    intensities = [layer["macs"] / layer["bytes"] for layer in known] or [1.0]
    ridge = peak / bandwidth
    left, right = min([*intensities, ridge]) / 2, max([*intensities, ridge]) * 2
    figure.add_scatter(
        x=[left, ridge, right], y=[left * bandwidth / 1e9, peak / 1e9, peak / 1e9], mode="lines", name="what the board could do",
        line={"color": palette.muted, "width": 1.5}, hoverinfo="skip",
    )  # fmt: skip
    for bound in ("compute", "memory"):
        chosen = [layer for layer in known if layer["bound"] == bound]
        if chosen:
            figure.add_scatter(
                x=[layer["macs"] / layer["bytes"] for layer in chosen],
                y=[layer["macs"] / layer["seconds"] / 1e9 for layer in chosen], mode="markers", name=f"waits for the {BOUNDS[bound]}",
                marker={"symbol": _SYMBOLS[provenance], "size": 9, "color": _hue(bound, palette), "line": {"width": 1.5}},
                hovertext=[_layer_words(layer) for layer in chosen], hoverinfo="text",
            )  # fmt: skip
    heights = [layer["macs"] / layer["seconds"] / 1e9 for layer in known]
    figure.update_xaxes(type="log", **_whole_ticks(left, right))
    figure.update_yaxes(type="log", **_whole_ticks(min([*heights, left * bandwidth / 1e9]), peak / 1e9))
    return figure


def _whole_ticks(low: float, high: float) -> dict[str, Any]:
    """Ticks of a logarithmic axis as whole numbers: 1, 2, 5, 10 …, all nine digits where that leaves few."""
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    for digits in ((1, 10), (1, 2, 5), range(1, 10)):
        ticks = sorted({digit * 10.0**decade for decade in decades for digit in digits if low <= digit * 10.0**decade <= high})
        if len(ticks) >= 4:
            break
    return {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def resource_bars(resources: Mapping[str, Sequence[float]], titles: Mapping[str, str], palette: Palette) -> go.Figure:
    """The share of the board that each resource takes; the board ends at 100 %."""
    names = [name for name in titles if name in resources and resources[name][1]]
    figure = new_figure(palette, x_title="share of the board", y_title="", height=90 + 40 * len(names))
    shares = [resources[name][0] / resources[name][1] for name in names]
    figure.add_bar(
        orientation="h", x=shares, y=[f"{titles[name]}  " for name in names], width=0.55, showlegend=False,
        marker={"color": palette.simulated, "cornerradius": 3}, text=[percent(share) for share in shares],
        textposition=["inside" if share > 0.7 else "outside" for share in shares], insidetextfont={"color": palette.background},
        hovertext=[f"{significant(taken)} of {significant(there)}" for taken, there in (resources[n] for n in names)],
        hoverinfo="text", cliponaxis=False,
    )  # fmt: skip
    figure.add_vline(x=1.0, line={"width": 1.5, "color": palette.muted})
    figure.update_xaxes(range=[0, 1.12], tickformat=".0%")
    figure.update_yaxes(showgrid=False, autorange="reversed")
    return figure


def critical_path(steps: Sequence[PathStep], palette: Palette) -> go.Figure:
    """The path that limits the clock, from register to register: each delay in ns where it lies."""
    figure = new_figure(palette, x_title="ns after the clock's edge", y_title="", height=150)
    starts = [sum(step.delay_ns for step in steps[:i]) for i in range(len(steps))]
    for words, (kinds, pattern) in _DELAYS.items():
        chosen = [(start, step) for start, step in zip(starts, steps, strict=True) if step.kind in kinds]
        if chosen:
            figure.add_bar(
                orientation="h", base=[start for start, _ in chosen], x=[step.delay_ns for _, step in chosen],
                y=[""] * len(chosen), width=0.6, name=words,
                marker={
                    "color": palette.simulated if words == "logic" else palette.neutral, "pattern": {"shape": pattern},
                    "line": {"width": 1, "color": palette.background},
                },
                hovertext=[f"{html.escape(step.cell)}<br>{words}, {significant(step.delay_ns)} ns" for _, step in chosen],
                hoverinfo="text",
            )  # fmt: skip
    figure.update_layout(barmode="overlay")
    figure.update_yaxes(showgrid=False, showticklabels=False)
    return figure


_DELAYS = {"logic": (("logic",), ""), "routing": (("routing",), "/"), "registers": (("clk-to-q", "setup"), ".")}


def _hue(bound: str, palette: Palette) -> str:
    return {"compute": palette.faster, "memory": palette.slower, "host": palette.neutral}[bound]


def _layer_words(layer: Mapping[str, Any]) -> str:
    lines = [f"<b>{html.escape(str(layer['name']) or str(layer['kind']))}</b>", f"{significant(layer['seconds'] * 1e3)} ms"]
    if layer["macs"]:
        lines += [
            html.escape(str(layer["gemm"])), f"{layer['cycles']:,} cycles, {percent(layer['utilisation'])} of the array used",
        ]  # fmt: skip
    else:
        lines.append(f"{html.escape(str(layer['kind']))}, done by the {html.escape(str(layer['place']))}")
    return "<br>".join(lines)
