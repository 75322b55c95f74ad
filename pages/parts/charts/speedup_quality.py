"""Speedup against retained quality: which recipes win, and how sure that is.

Measured runs are filled circles with their 95 % interval, simulated ones open
squares, projected ones open diamonds; intervals only on what was measured. The
baseline stands at 1.0, the guard-rail is dotted with the failing region tinted, far
failures are clamped to the edge and counted, and only the pick is labelled.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from engine.domain.metrics import Provenance
from pages.parts.charts.style import new_figure
from pages.parts.format import ratio, share
from pages.parts.theme import Palette

_SYMBOLS = {Provenance.MEASURED: "circle", Provenance.SIMULATED: "square-open", Provenance.PROJECTED: "diamond-open"}
WEBGL_FROM = 2000
"""Above this many marks SVG gets slow and WebGL takes over."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One run in the plot. `speedup` and `quality` are ratios to the baseline."""

    run_id: str
    words: str
    recipe: str
    runtime: str
    provenance: Provenance
    speedup: float
    interval: tuple[float, float] | None
    quality: float
    verdict: str = ""
    is_baseline: bool = False
    on_front: bool = False
    is_pick: bool = False


def speedup_quality(marks: Sequence[Mark], guard_rail: float, palette: Palette) -> go.Figure:
    """The figure; each point's customdata starts with its run id."""
    figure = new_figure(palette, x_title="speedup over baseline → better", y_title="quality retained ↑ better")
    floor = _floor(marks, guard_rail)
    top = max([1.0, *(m.quality for m in marks)])
    _draw_references(figure, guard_rail, floor, palette)
    _draw_front(figure, marks, palette)
    for runtime in dict.fromkeys(m.runtime for m in marks):
        for provenance in Provenance:
            chosen = [m for m in marks if m.runtime == runtime and m.provenance is provenance]
            for acceptable in (True, False):
                part = [m for m in chosen if (m.quality >= guard_rail) is acceptable]
                if part:
                    first = acceptable or not any(m.quality >= guard_rail for m in chosen)
                    _draw_marks(figure, part, floor, palette, acceptable=acceptable, in_legend=first)
    _draw_pick(figure, marks, palette)
    clamped = sum(m.quality < floor for m in marks)
    if clamped:
        figure.add_annotation(
            text=f"▼ {clamped} below {share(floor, 2)}", x=1, xref="paper", y=floor, yanchor="bottom", xanchor="right",
            showarrow=False, font={"color": palette.muted},
        )
    pad = (top - floor) * 0.06 or 0.001
    figure.update_yaxes(range=[floor - pad, top + pad])
    fastest = max([1.0, *(m.interval[1] if m.interval else m.speedup for m in marks)])
    slowest = min([1.0, *(m.interval[0] if m.interval else m.speedup for m in marks)])
    room = (fastest - slowest) * 0.12 or 0.1
    figure.update_xaxes(range=[max(0.0, slowest - room / 2), fastest + room], ticksuffix="×")
    return figure


def _floor(marks: Sequence[Mark], guard_rail: float) -> float:
    """Lowest quality drawn to scale: four times as far below 1 as the guard-rail is."""
    reach = 1 - 4 * max(1 - guard_rail, 0.0025)
    return max(reach, min([guard_rail - (1 - guard_rail) * 0.5, *(m.quality for m in marks)]))


def _draw_references(figure: go.Figure, guard_rail: float, floor: float, palette: Palette) -> None:
    figure.add_hrect(
        y0=floor - 1, y1=guard_rail, fillcolor=palette.guard_rail_tint, line_width=0, layer="below"
    )
    figure.add_hline(
        y=guard_rail, line={"dash": "dot", "width": 1.5, "color": palette.guard_rail},
        annotation={"text": f"guard-rail {share(guard_rail, 3)}", "font": {"color": palette.guard_rail, "size": 12}},
        annotation_position="bottom left",  # the fastest run, which is named, tends to stand at the right
    )
    figure.add_vline(
        x=1.0, line={"width": 1.5, "color": palette.muted},
        annotation={"text": "baseline 1.0×", "textangle": -90, "font": {"color": palette.muted, "size": 12}},
        annotation_position="bottom left",
    )


def _draw_front(figure: go.Figure, marks: Sequence[Mark], palette: Palette) -> None:
    front = sorted((m for m in marks if m.on_front), key=lambda m: m.speedup)
    if len(front) > 1:
        figure.add_scatter(
            x=[m.speedup for m in front], y=[m.quality for m in front], mode="lines", name="Pareto front",
            line={"shape": "vh", "width": 1.5, "color": palette.muted}, hoverinfo="skip",
        )


def _draw_marks(
    figure: go.Figure, marks: Sequence[Mark], floor: float, palette: Palette, *, acceptable: bool, in_legend: bool
) -> None:
    first = marks[0]
    colour = palette.runtimes.get(first.runtime, palette.neutral)
    measured = first.provenance is Provenance.MEASURED
    name = first.runtime if measured else f"{first.runtime}, {first.provenance}"
    kind = go.Scattergl if len(marks) > WEBGL_FROM else go.Scatter
    figure.add_trace(
        kind(
            x=[m.speedup for m in marks], y=[max(m.quality, floor) for m in marks], mode="markers", name=name,
            legendgroup=name, showlegend=in_legend, opacity=1.0 if acceptable else 0.55,
            marker={
                "size": 10, "color": colour,
                "symbol": ["triangle-down" if m.quality < floor else _SYMBOLS[m.provenance] for m in marks],
                "line": {"width": 1.5 if not measured else 0, "color": colour},
            },
            error_x=_intervals(marks) if measured else None,
            customdata=[[m.run_id, m.recipe or "baseline"] for m in marks], hovertext=[_hover(m) for m in marks],
            hoverinfo="text",
        )
    )  # fmt: skip


def _intervals(marks: Sequence[Mark]) -> dict[str, object]:
    bounds = [m.interval or (m.speedup, m.speedup) for m in marks]
    return {
        "type": "data", "symmetric": False, "thickness": 1.5, "width": 0,
        "array": [high - m.speedup for m, (_, high) in zip(marks, bounds, strict=True)],
        "arrayminus": [m.speedup - low for m, (low, _) in zip(marks, bounds, strict=True)],
    }  # fmt: skip


def _hover(mark: Mark) -> str:
    interval = f" ({ratio(mark.interval[0])} to {ratio(mark.interval[1])})" if mark.interval else ""
    lines = [
        f"<b>{html.escape(mark.words)}</b>",
        f"speedup {ratio(mark.speedup)}{interval}",
        f"quality {share(mark.quality, 4)}",
        f"{mark.verdict + ', ' if mark.verdict else ''}{mark.provenance}",
    ]
    return "<br>".join(lines)


def _draw_pick(figure: go.Figure, marks: Sequence[Mark], palette: Palette) -> None:
    for mark in (m for m in marks if m.is_pick):
        figure.add_scatter(
            x=[mark.speedup], y=[mark.quality], mode="markers", hoverinfo="skip", showlegend=False,
            marker={"size": 19, "symbol": "circle-open", "color": palette.text, "line": {"width": 2}},
        )  # fmt: skip
        technique, _, runtime = mark.words.rpartition(" · ")
        figure.add_annotation(
            x=mark.speedup, y=mark.quality, ax=-24, ay=34, xanchor="right", align="right", arrowcolor=palette.muted,
            arrowwidth=1, arrowhead=0, standoff=10,
            text=f"<b>{html.escape(technique)}</b><br>{html.escape(runtime)} · {ratio(mark.speedup)}",
            font={"color": palette.text, "size": 12},
        )  # fmt: skip
