"""One metric over the runs of an experiment, with intervals and the baseline as a line."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from engine.domain.metrics import METRICS, Direction, Measurement, Provenance
from pages.parts.charts.style import new_figure
from pages.parts.format import plural, value_of
from pages.parts.theme import Palette

_SCALES = {"bytes": (1e6, "MB")}


@dataclass(frozen=True, slots=True)
class Bar:
    """One run's measurement. `words` names its recipe."""

    run_id: str
    words: str
    runtime: str
    measurement: Measurement
    is_baseline: bool = False


def metric_bars(bars: Sequence[Bar], palette: Palette) -> go.Figure:
    """Horizontal bars of one metric, best at the top. All bars hold the same metric.

    Each name stands above its bar, so that long recipes leave the bars their room on a narrow screen.
    """
    metric = METRICS[bars[0].measurement.name]
    divisor, unit = _SCALES.get(metric.unit, (1.0, metric.unit))
    better = "←" if metric.better is Direction.LOWER else "→"
    ordered = sorted(bars, key=lambda b: b.measurement.median, reverse=metric.better is Direction.LOWER)
    figure = new_figure(
        palette, x_title=f"{metric.title}, {unit} {better} better", y_title="", height=80 + 46 * len(ordered)
    )
    values = [b.measurement.median / divisor for b in ordered]
    figure.add_bar(
        orientation="h", x=values, y=list(range(len(ordered))), showlegend=False,
        marker={
            "color": [palette.runtimes.get(b.runtime, palette.neutral) for b in ordered],
            "pattern": {"shape": ["" if b.measurement.provenance is Provenance.MEASURED else "/" for b in ordered]},
            "cornerradius": 3,
        },
        error_x=_intervals(ordered, divisor), width=0.36, customdata=[[b.run_id] for b in ordered],
        hovertext=[_hover(b) for b in ordered], hoverinfo="text",
    )  # fmt: skip
    for bar in (b for b in ordered if b.is_baseline):
        figure.add_vline(x=bar.measurement.median / divisor, line={"width": 1.5, "color": palette.muted})
    for position, bar in enumerate(ordered):
        figure.add_annotation(
            text=html.escape(bar.words), x=0, xref="paper", xanchor="left", y=position, yshift=17, showarrow=False, font={"size": 12}
        )
    figure.update_yaxes(showgrid=False, showticklabels=False, zeroline=False, range=[-0.5, len(ordered) - 0.2])
    figure.update_xaxes(rangemode="tozero")
    return figure


def _intervals(bars: Sequence[Bar], divisor: float) -> dict[str, object]:
    pairs = [(b.measurement.ci95 or (b.measurement.median,) * 2, b.measurement.median) for b in bars]
    return {
        "type": "data", "symmetric": False, "thickness": 1.5, "width": 3,
        "array": [(high - middle) / divisor for (_, high), middle in pairs],
        "arrayminus": [(middle - low) / divisor for (low, _), middle in pairs],
    }  # fmt: skip


def _hover(bar: Bar) -> str:
    m = bar.measurement
    interval = f"<br>{m.provenance.interval} {value_of(m.name, m.ci95[0])} to {value_of(m.name, m.ci95[1])}" if m.ci95 else ""
    samples = f"{plural(m.samples, 'sample')}, " if m.provenance is Provenance.MEASURED else ""
    return f"<b>{html.escape(bar.words)}</b><br>{value_of(m.name, m.median)}{interval}<br>{samples}{m.provenance}"
