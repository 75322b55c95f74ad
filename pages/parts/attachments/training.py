"""Loss curves and sensitivity scans."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts.charts.style import CHART_CONFIG
from pages.parts.charts.training import held_out_quality, sensitivity, training_loss
from pages.parts.format import plain
from pages.parts.theme import palette


def show_loss_curve(curves: Any, baseline: Any) -> None:
    """How the student came closer to its teacher, and why it stopped."""
    first, best = curves[0]["points"][0]["quality"], max(p["quality"] for c in curves for p in c["points"])
    with st.container(border=True):
        st.markdown(f"**Training brought the held-out {plain(curves[0]['metric'])} from {first:.3f} to {best:.3f}**")
        ended = "; ".join(plain(curve["ended"]) for curve in curves)
        st.caption(f"Held out of the training data, which are never those that quality is scored on. Ended: {ended}.")
        st.plotly_chart(
            held_out_quality(curves, palette()), theme=None, key="held_out_quality", config=CHART_CONFIG,
            alt="Quality on the held-out part over minutes of training",
        )  # fmt: skip
        st.plotly_chart(
            training_loss(curves, palette()), theme=None, key="training_loss", config=CHART_CONFIG, alt="Training loss over minutes"
        )


def show_sensitivity(data: Any, baseline: Any) -> None:
    """What each layer can spare."""
    with st.container(border=True):
        least, most = min(data["proposed"]), max(data["proposed"])
        st.markdown(f"**Layers can spare between {least:.0%} and {most:.0%} of themselves**")
        st.caption("Each layer was cut alone, the others whole, on calibration data; the shares cost least together.")
        st.plotly_chart(
            sensitivity(data, palette()), theme=None, key="sensitivity", config=CHART_CONFIG, alt="Loss of the answers by layer and share"
        )
