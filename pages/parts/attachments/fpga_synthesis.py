"""What yosys and nextpnr found of a core: resources, clock, critical path; and the way to let them run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from engine.domain.errors import SpeedrailError
from engine.fpga.cycles import Core
from engine.fpga.synthesis import Family, Synthesis, fits_ecp5, known, nearest_routed
from engine.fpga.synthesis_jobs import State, start, state, stop
from pages.parts.charts.fpga import critical_path
from pages.parts.charts.style import CHART_CONFIG
from pages.parts.format import plain, plural, significant
from pages.parts.shell import resources, show_problem
from pages.parts.theme import palette

_EVERY_SECONDS = 5.0
_BOARD = "ecp5-85f"
"""Whose clock comes from place and route."""
_FAMILIES = {Family.ECP5: "ECP5", Family.SERIES_7: "Xilinx 7 series", Family.ULTRASCALE_PLUS: "Xilinx UltraScale+"}


def show(data: Mapping[str, Any]) -> None:
    """Of the placement's core; of the nearest smaller one where that is too large for an ECP5 or was not synthesised."""
    if "width" not in data:
        return  # an early run's, which does not say which core it was
    core, home = Core(size=data["size"], width=data["width"]), resources().settings.home
    with st.container(border=True):
        running = state(core, home).running
        st.fragment(_panel, run_every=_EVERY_SECONDS if running else None)(core, home, running, data)


def _panel(core: Core, home: Path, was_running: bool, data: Mapping[str, Any]) -> None:
    going = state(core, home)
    if was_running and not going.running:
        st.rerun()  # nothing is to be asked for every few seconds any more
    own = known(core, home)
    found = own if own and own.routes else nearest_routed(core, home)
    if found:
        _figures(found, core, data)
    else:
        st.markdown("**No core of this width was placed and routed yet**")
    if going.running:
        _show_running(core, home, going.said)
    elif fits_ecp5(core) and (going.ended_early or not (own and own.routes and own.is_current)):
        _offer(core, home, going)


def _figures(found: Synthesis, core: Core, data: Mapping[str, Any]) -> None:
    clocks = sorted(route.fmax_mhz for route in found.routes)
    st.markdown(f"**Placed and routed, a core of N = {found.core.size} reaches {significant(found.fmax_mhz)} MHz**")
    other = "" if found.core == core else f"This board's array is made of cores of N = {core.size}; this is the nearest that was synthesised. "
    stale = "" if found.is_current else "Made from an earlier version of the Verilog. "
    spread = f": {significant(clocks[0])} to {significant(clocks[-1])} MHz" if len(clocks) > 1 else ""
    path = found.routes[0].critical_path
    placed_mhz = data["clock_hz"] / 1e6
    differs = found.core == core and data["board"] == _BOARD and significant(placed_mhz) != significant(found.fmax_mhz)
    again = f" This run was placed with {significant(placed_mhz)} MHz; placed again it takes this clock." if differs else ""
    st.caption(
        plain(
            f"{other}{stale}{found.device}, {plural(len(clocks), 'seed')}{spread}. The path that limits the best: "
            f"{significant(sum(step.delay_ns for step in path))} ns, from {path[0].cell} to {path[-1].cell}. {found.tools}.{again}"
        )
    )
    st.plotly_chart(
        critical_path(path, palette()), theme=None, key="fpga_path", config=CHART_CONFIG,
        alt="Delays along the critical path, one after the other",
    )  # fmt: skip
    with st.expander("Resources of one core"):
        st.dataframe(
            [
                {
                    "Family": _FAMILIES[family], "LUTs": r.luts, "Flip-flops": r.flip_flops, "DSPs": r.dsps,
                    "RAM blocks of 18 kbit": r.block_memories,
                }
                for family, r in found.resources.items()
            ],
            hide_index=True, row_height=34, key="fpga_core_resources",
        )  # fmt: skip


def _show_running(core: Core, home: Path, said: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f":material/hourglass: Synthesizing N = {core.size}: {plain(said) or 'starting'}", width="stretch")
        if st.button("Stop", icon=":material/stop:", key="fpga_stop", help="What was found until then is kept"):
            stop(core, home)
            st.rerun()


def _offer(core: Core, home: Path, last: State) -> None:
    if last.ended_early:
        st.warning(plain(f"The last synthesis ended early: {last.said}"), icon=":material/warning:")
    if st.button(
        f"Synthesize N = {core.size}", icon=":material/developer_board:", key="fpga_synthesize",
        help="yosys and nextpnr in the background, many minutes; what is found is kept after every step",
    ):  # fmt: skip
        try:
            start(core, home)
        except SpeedrailError as error:
            show_problem(error)
        else:
            st.rerun()
