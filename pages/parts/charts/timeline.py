"""Who did what when in one call: a row for each rank, a bar for each computation, with its microbatch, and each transfer."""

from __future__ import annotations

import html
from typing import Any

import plotly.graph_objects as go

from pages.parts.charts.style import new_figure
from pages.parts.theme import Palette

COMPUTE, LINK = "compute", "link"
_NAMES = {COMPUTE: "computes", LINK: "sends or waits for the link"}


def timeline(data: dict[str, Any], palette: Palette) -> go.Figure:
    """data: see engine.executors.spread.timeline.as_attachment."""
    ranks: list[str] = data["ranks"]
    figure = new_figure(palette, x_title="ms since the call began", y_title="", height=110 + 46 * len(ranks))
    colours = {COMPUTE: palette.primary, LINK: palette.neutral}
    several = microbatches(data["events"]) > 1
    for kind, width in ((COMPUTE, 0.7), (LINK, 0.35)):
        events = [e for e in data["events"] if e[1] == kind]
        numbered = several and kind == COMPUTE
        figure.add_bar(
            orientation="h", name=_NAMES[kind], width=width,
            x=[max(end - begin, 0.0) for _, _, _, begin, end, _ in events], base=[begin for _, _, _, begin, _, _ in events],
            y=[f"{html.escape(ranks[rank])}  " for rank, *_ in events],
            marker={"color": colours[kind], "line": {"width": 1, "color": palette.surface}},
            hovertext=[_hover(ranks[rank], *rest) for rank, *rest in events], hoverinfo="text",
            text=[str(item + 1) if numbered else "" for _, _, item, *_ in events], textposition="inside", insidetextanchor="middle",
            textangle=0, insidetextfont={"color": palette.surface},
        )  # fmt: skip
    # a number that does not fit its bar is left out, all others have one size
    figure.update_layout(barmode="overlay", bargap=0.2, uniformtext={"minsize": 10, "mode": "hide"})
    figure.update_yaxes(showgrid=False, categoryorder="array", categoryarray=[f"{html.escape(r)}  " for r in reversed(ranks)])
    figure.update_xaxes(rangemode="tozero")
    return figure


def microbatches(events: list[list[Any]]) -> int:
    """How many are told apart."""
    return len({item for _, kind, item, *_ in events if kind == COMPUTE})


def _hover(rank: str, kind: str, item: int, begin: float, end: float, sent: int) -> str:
    what = f"microbatch {item + 1}" if kind == COMPUTE else f"{sent:,} bytes handed on" if sent else "waits for data"
    return f"<b>{html.escape(rank)}</b><br>{_NAMES[kind]}: {what}<br>{begin:.2f} to {end:.2f} ms"
