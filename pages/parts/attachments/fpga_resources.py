"""`fpga_resources`: what the array takes of the board, and what can be taken away of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from engine.domain.errors import SpeedrailError
from engine.fpga.handing_out import project, waveform
from engine.fpga.plan_file import energy_words
from engine.fpga.resources import TITLES
from pages.parts.attachments import fpga_synthesis
from pages.parts.charts.fpga import resource_bars
from pages.parts.charts.style import CHART_CONFIG
from pages.parts.format import plain
from pages.parts.shell import resources, show_problem
from pages.parts.theme import palette

_FIGURES = {
    "clock_mhz": "clock", "power_w": "power", "host_gops": "the host's speed", "host_gb_per_s": "bandwidth to the host",
    "host_latency_us": "latency to the host", "memory_gb": "memory", "memory_gb_per_s": "memory bandwidth",
    "mac_per_dsp": "products of a DSP",
}  # fmt: skip


def draw(data: Any, baseline: Any) -> None:
    taken = data["resources"]
    fullest = max((name for name in taken if taken[name][1]), key=lambda name: taken[name][0] / taken[name][1])
    low, high = (hertz / 1e6 for hertz in data["clock_range_hz"])
    with st.container(border=True):
        limits = "limits" if fullest == "ram_kbit" else "limit"
        st.markdown(f"**{TITLES[fullest]} {limits} the array on {plain(data['title'])}**")
        st.caption(
            plain(
                f"Clock {data['clock_hz'] / 1e6:.0f} MHz ({data['clock_status']}, {low:.0f} to {high:.0f}). Energy "
                f"{energy_words(tuple(data['joules']))} a call, from the board's power range. Resources: {data['resources_source']}. "
                f"Assumed of the board: {', '.join(_FIGURES.get(name, name) for name in data['assumed']) or 'nothing'}."
            )
        )
        st.plotly_chart(
            resource_bars(taken, TITLES, palette()), theme=None, key="fpga_resources", config=CHART_CONFIG,
            alt="Share of the board's resources that the array takes",
        )  # fmt: skip
        if data["executed"]:
            _downloads()
    fpga_synthesis.show(data)


def _downloads() -> None:
    run_id = st.query_params.get("id", "")
    run = resources().storage.runs.get(run_id)
    with st.container(horizontal=True, gap="small"):
        if run.lowered_id:
            st.download_button(
                "Core and weights (project)", data=lambda: _project(run.lowered_id), file_name="speedrail-gemm-core.zip",
                mime="application/zip", icon=":material/memory:", key="fpga_project",
                help="Verilog, testbench and integer weights of some layers, for your own simulator or vendor tool",
            )  # fmt: skip
        st.download_button(
            "Waveform (VCD)", data=_waveform, file_name="speedrail-gemm-core.vcd", mime="text/plain",
            icon=":material/monitoring:", key="fpga_waveform",
            help="A core of 4 × 4 on a few tiles; the first time the core is built, which takes some seconds",
        )  # fmt: skip


def _project(lowered_id: str) -> bytes:
    return project(Path(resources().storage.files.local_path(lowered_id)))


def _waveform() -> bytes:
    try:
        return waveform(resources().settings.home)
    except SpeedrailError as error:
        show_problem(error)
        return b""
