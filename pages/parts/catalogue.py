"""The catalogue of accelerators, with filters. Every figure has its source."""

from __future__ import annotations

import streamlit as st

from engine.hardware.gpus import Gpu, gpus
from pages.parts.format import MISSING

_TITLES = {"launch_us": "launch time", "power_w": "power"}
_FORMATS = ("fp32", "fp16", "bf16", "fp8", "int8")


def show() -> None:
    st.subheader("Catalogue of accelerators", anchor=False)
    uses = sorted({gpu.use for gpu in gpus()})
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        chosen = st.pills("Use", uses, selection_mode="multi", key="catalogue_use", bind="query-params")
        needed = st.number_input("Memory at least (GB)", 0, 1000, 0, 8, key="catalogue_memory", bind="query-params", width=190)
    found = [gpu for gpu in gpus() if (not chosen or gpu.use in chosen) and gpu.memory_bytes >= (needed or 0) * 1e9]
    if not found:
        st.caption("No device of the catalogue is like that.")
        return
    st.dataframe(
        [_cells(gpu) for gpu in found], hide_index=True, row_height=34, placeholder=MISSING, key="catalogue", alt="Accelerators",
        column_config={
            name: st.column_config.NumberColumn(format="%.4g") for name in (*(f"{f}, T/s" for f in _FORMATS), "Memory, GB", "Bandwidth, GB/s", "Power, W")
        } | {name: st.column_config.TextColumn(width="large") for name in ("Source", "Checked against")},
    )  # fmt: skip
    st.caption(
        "Dense peaks in tera-operations per second, as published; empty where the device has no units for the format. Verified: "
        "somebody other than the vendor measured products that reach three quarters of the bf16 peak. Nobody publishes launch times."
    )


def _cells(gpu: Gpu) -> dict[str, object]:
    return {
        "Device": gpu.name, "Use": gpu.use, "Memory, GB": gpu.memory_bytes / 1e9, "Bandwidth, GB/s": gpu.bandwidth / 1e9,
        "Power, W": gpu.power_watts, **{f"{f}, T/s": gpu.peaks[f] / 1e12 if f in gpu.peaks else None for f in _FORMATS},
        "Figures": str(gpu.status), "Assumed": ", ".join(_TITLES.get(name, name) for name in gpu.assumed), "Source": gpu.source,
        "Checked against": gpu.checked or None,
    }  # fmt: skip
