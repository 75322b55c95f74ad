"""What lies beside a run's numbers, drawn: one file a kind, listed by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.domain.experiment import LOSS_CURVE, SENSITIVITY, Run
from engine.domain.noise import NOISE
from pages.parts.attachments import (
    context,
    fpga_layers,
    fpga_resources,
    fpga_roofline,
    layers,
    load,
    operators,
    roofline,
    timeline,
)
from pages.parts.attachments.noise import draw_noise
from pages.parts.attachments.training import show_loss_curve, show_sensitivity
from pages.parts.shell import resources

Drawer = Callable[[Any, Any], None]
"""Draws a run's data of one kind; the second argument is the baseline's, or None."""

DRAWERS: dict[str, Drawer] = {
    "load": load.show, "context": context.show, "timeline": timeline.show, "operators": operators.show, "roofline": roofline.draw,
    "fpga_layers": fpga_layers.draw, "fpga_roofline": fpga_roofline.draw, "fpga_resources": fpga_resources.draw,
    "layers": layers.show, NOISE: draw_noise, LOSS_CURVE: show_loss_curve, SENSITIVITY: show_sensitivity,
}  # fmt: skip
"""In the order of the page."""


def show(run: Run, baseline: Run | None) -> None:
    """Everything attached to this run that a page knows how to draw."""
    own = resources().storage.runs.attachments(run.id)
    drawn = [kind for kind in DRAWERS if kind in own]
    other = resources().storage.runs.attachments(baseline.id) if baseline and drawn else {}
    for kind in drawn:
        DRAWERS[kind](own[kind], other.get(kind))
