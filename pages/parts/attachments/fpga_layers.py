"""`fpga_layers`: where the time of a placement on an FPGA goes, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages.parts.charts.fpga import BOUNDS, layer_times
from pages.parts.charts.style import CHART_CONFIG
from pages.parts.format import percent, plain, significant
from pages.parts.theme import palette


def draw(data: Any, baseline: Any) -> None:
    with st.container(border=True):
        chosen = _pass(data["passes"], "fpga_pass")
        waits = max(chosen["waits"], key=chosen["waits"].__getitem__)
        st.markdown(f"**{plain(chosen['title'])}: {significant(chosen['seconds'] * 1e3)} ms, mostly waiting for the {BOUNDS[waits]}**")
        st.caption(plain(_words(data, chosen)))
        st.plotly_chart(
            layer_times(chosen["layers"], palette()), theme=None, key="fpga_layers", config=CHART_CONFIG,
            alt="Latency of each layer, by what it waits for",
        )  # fmt: skip
        with st.expander("All layers"):
            st.dataframe([_row(layer) for layer in chosen["layers"]], hide_index=True, row_height=34, key="fpga_layer_table")


def _pass(passes: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """The prompt of a causal LM or one of its tokens; others have one pass."""
    if len(passes) == 1:
        return passes[0]
    titles = [one["title"] for one in passes]
    title = st.segmented_control("Pass", titles, default=titles[0], key=key, label_visibility="collapsed")
    return next(one for one in passes if one["title"] == (title or titles[0]))


def _words(data: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    shares = ", ".join(f"{BOUNDS[name]} {significant(seconds * 1e3)} ms" for name, seconds in chosen["waits"].items())
    array = f"{data['cores']} arrays of {data['size']} × {data['size']}" if data["cores"] > 1 else f"one array of {data['size']} × {data['size']}"
    return (
        f"{data['title']}, {array}, {data['precision']}, {data['clock_hz'] / 1e6:.0f} MHz. What is waited for: {shares}. "
        f"The array is used to {percent(chosen['utilisation'])} over the whole pass."
    )


def _row(layer: Mapping[str, Any]) -> dict[str, object]:
    return {
        "Layer": layer["name"] or layer["kind"], "Product": layer["gemm"], "Where": layer["place"],
        "Latency, ms": round(layer["seconds"] * 1e3, 4), "Cycles": layer["cycles"] or None,
        "Array used": percent(layer["utilisation"]) if layer["macs"] else "", "Waits for": BOUNDS[layer["bound"]],
    }  # fmt: skip
