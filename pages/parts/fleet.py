"""This host's measured peaks, and every host that serves the queue."""

from __future__ import annotations

import streamlit as st

from engine.domain.calibration import Calibration
from engine.hardware.accelerators import usable
from engine.host import this_host as facts
from pages.parts.format import MISSING, ago, plural, significant
from pages.parts.shell import resources


def this_host() -> None:
    """Four figures of the host the dashboard runs on; how to get them where they were not measured."""
    host = facts()
    found = resources().storage.hosts.calibration(host.name)
    devices = ", ".join(device.name for device in usable()) or "no accelerator"
    st.subheader("This host, measured", anchor=False)
    st.caption(f"{host.cpu}, {plural(host.cores, 'core')}, {host.memory_bytes / 2**30:.1f} GiB, {devices}")
    if found is None:
        st.info("Its peaks were not measured yet. Run `python -m engine calibrate` on it, about a minute.", icon=":material/speed:")
        return
    with st.grid("auto", min_column_width=150, gap="small"):
        for label, value in _figures(found):
            st.metric(label, value, border=True)
    st.caption(f"Peaks of products and of reading memory, measured {ago(found.measured_at)} on all cores; equal processes differ by {found.noise_band:.1%}.")


def _figures(found: Calibration) -> list[tuple[str, str]]:
    cores = max((p.threads for p in found.peaks), default=1)
    figures = []
    for precision in ("fp32", "bf16", "int8"):
        peak = found.peak(precision, cores)
        unit = "GOP/s" if precision == "int8" else "GFLOP/s"
        figures.append((f"{precision}, {unit}", significant(peak / 1e9) if peak else MISSING))
    bandwidth = found.bandwidth(cores)
    return [*figures, ("memory, GB/s", significant(bandwidth / 1e9) if bandwidth else MISSING)]


def hosts() -> None:
    """The workers' hosts, what they have and do, and when they were last heard of."""
    st.subheader("Hosts of the team", anchor=False)
    beats = resources().storage.hosts.list()
    if not beats:
        st.caption("No worker has served this installation yet. The dashboard starts one at the first launch; "
                   "`python -m engine worker` starts one on any machine that reaches the database.")  # fmt: skip
        return
    st.dataframe(
        [
            {
                "Host": beat.host, "Processor": beat.facts.cpu, "Cores": beat.facts.cores,
                "Memory, GiB": beat.facts.memory_bytes / 2**30,
                "Accelerators": ", ".join(a.partition(":")[2] for a in beat.facts.accelerators) or "none",
                "Doing": beat.doing or "waiting", "Last heard": ago(beat.at),
            }
            for beat in beats
        ],
        hide_index=True, row_height=34, placeholder=MISSING, alt="Hosts", key="fleet",
        column_config={"Memory, GiB": st.column_config.NumberColumn(format="%.1f")},
    )  # fmt: skip
