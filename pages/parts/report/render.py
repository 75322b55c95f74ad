"""A comparison rendered to one HTML file: read-only by construction.

Everything is inline (style, plotly.js, data), nothing is fetched, and every user's
word is escaped by Jinja2. Both themes are drawn; the reader's own decides.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from plotly.offline import get_plotlyjs

from engine.domain.experiment import Run
from engine.domain.metrics import METRICS
from pages.parts import format as text
from pages.parts.charts.bars import metric_bars
from pages.parts.charts.speedup_quality import speedup_quality
from pages.parts.comparison import Comparison
from pages.parts.theme import DARK, LIGHT, Palette


def render_comparison(comparison: Comparison) -> str:
    """The whole HTML document (about 5 MB, most of it plotly.js)."""
    page: str = _template().render(
        c=comparison, t=text, METRICS=METRICS, palettes=(LIGHT, DARK),
        workload=comparison.workload_words, environment=_environment(comparison),
        figures=_json({p.name: _figures(comparison, p) for p in (LIGHT, DARK)}),
        metrics=comparison.bar_metrics(), plotly=get_plotlyjs(), facts=_facts,
    )  # fmt: skip
    return page


@cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(default=True),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("report.html")


def _figures(comparison: Comparison, palette: Palette) -> dict[str, Any]:
    figures: dict[str, go.Figure] = {}
    marks = comparison.marks()
    if marks:
        figures["scatter"] = speedup_quality(marks, comparison.experiment.guard_rail, palette)
    for name in comparison.bar_metrics():
        figures[f"bars-{name}"] = metric_bars(comparison.bars(name), palette)
    return {name: json.loads(figure.to_json()) for name, figure in figures.items()}


def _json(data: Any) -> str:
    """JSON that is safe inside a script element."""
    encoded = json.dumps(data, separators=(",", ":"))
    return encoded.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _environment(comparison: Comparison) -> list[tuple[str, str]]:
    run = next((r.run for r in comparison.succeeded if r.run.environment), None)
    if run is None or run.environment is None:
        return []
    e = run.environment
    return [
        ("Host", f"{e.host}, {e.cpu}, {e.cores} cores, {text.size(e.memory_bytes)}"),
        ("CPU features", " ".join(e.cpu_flags) or "none that matter"),
        ("System", f"kernel {e.kernel}, Python {e.python}, governor {e.governor}"),
        ("Threads", str(e.threads)),
        ("Isolation", e.sandbox),
        ("Versions", ", ".join(f"{name} {version}" for name, version in sorted(e.versions.items()))),
    ]


def _facts(run: Run) -> list[tuple[str, str]]:
    """A run's facts as (stage, words) pairs."""
    return [
        (stage.technique, ", ".join(f"{k.replace('_', ' ')} {_plain(v)}" for k, v in stage.facts.items()))
        for stage in run.facts
    ]


def _plain(value: object) -> str:
    return text.significant(value, 4) if isinstance(value, float) else str(value)
