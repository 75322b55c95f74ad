"""Which layers got the number format that was asked for, and which stayed as they were."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts.format import plain


def show(own: Any, _: Any) -> None:
    layers, wanted = own["layers"], own["wanted"]
    stayed = [layer for layer in layers if layer["format"] != wanted]
    with st.container(border=True):
        told = f"All {len(layers)} layers are {wanted}" if not stayed else f"{len(stayed)} of {len(layers)} layers are not {wanted}"
        st.markdown(f"**{plain(told)}**")
        st.caption("Read from the produced file: layers that multiply by stored weights, in the order of the graph.")
        st.dataframe(
            [_row(layer, wanted) for layer in (*stayed, *(each for each in layers if each["format"] == wanted))],
            hide_index=True, row_height=34, height=min(38 + 34 * len(layers), 360), key="layers",
        )  # fmt: skip


def _row(layer: dict[str, Any], wanted: str) -> dict[str, str]:
    return {
        "Layer": layer["name"],
        "Format": layer["format"],
        "Stayed": "stayed" if layer["format"] != wanted else "",
        "Scales": f"one for {layer['group']} weights" if layer["group"] else "",
        "Shape": " × ".join(str(size) for size in layer["shape"]),
        "Operator": layer["operator"],
    }
