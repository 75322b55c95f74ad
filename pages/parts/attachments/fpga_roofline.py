"""`fpga_roofline`: how near each product comes to what array and memory could do."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts.charts.fpga import roofline
from pages.parts.charts.style import CHART_CONFIG
from pages.parts.format import percent, plain, significant
from pages.parts.theme import palette


def draw(data: Any, baseline: Any) -> None:
    layers = [layer for one in data["passes"] for layer in one["layers"]]
    provenance = "simulated" if data["executed"] else "projected"
    peak, bandwidth = data["peak_macs_per_second"], data["memory_bytes_per_second"]
    reached = max((layer["macs"] / layer["seconds"] for layer in layers if layer["macs"]), default=0.0)
    with st.container(border=True):
        st.markdown(f"**The best layer reaches {percent(reached / peak)} of the array's peak**")
        st.caption(
            plain(
                f"Each mark is a product, {provenance}. Left of the bend the memory ({significant(bandwidth / 1e9)} GB/s) sets the "
                f"pace, right of it the array ({significant(peak / 1e9)} G multiplications/s)."
            )
        )
        st.plotly_chart(
            roofline(layers, peak, bandwidth, provenance, palette()), theme=None, key="fpga_roofline", config=CHART_CONFIG,
            alt="Roofline of the board with every product of the network",
        )  # fmt: skip
