"""The standalone report: one HTML file, interactive, that also works offline."""

from __future__ import annotations

from pages.parts.comparison import load_comparison
from pages.parts.report.render import render_comparison
from storage import Storage

__all__ = ["render_comparison", "render_report"]


def render_report(storage: Storage, experiment_id: str) -> str:
    """The report of a stored experiment. Raises NotFound."""
    return render_comparison(load_comparison(storage, experiment_id))
