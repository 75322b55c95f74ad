"""Colours of the dashboard's figures and marks, for light and dark.

Text colours reach a contrast of 4.5:1 on their background; faster and slower stay
apart for colour-blind eyes and are never told by colour alone. The widgets' own
colours are in `.streamlit/config.toml`.
"""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from engine.domain.metrics import Verdict
from engine.domain.recipe import RuntimeId

FONT = "Inter, 'Source Sans', sans-serif"


@dataclass(frozen=True, slots=True)
class Palette:
    """One theme's colours, as `#RRGGBB`."""

    name: str
    background: str
    surface: str
    """Of cards, table headers and hover boxes."""
    text: str
    muted: str
    border: str
    grid: str
    primary: str
    faster: str
    slower: str
    neutral: str
    projected: str
    simulated: str
    tint: str
    """Fill of areas that text stands on."""
    guard_rail: str
    guard_rail_tint: str
    """Fill of the region below the guard-rail."""
    runtimes: dict[str, str]

    def of_verdict(self, verdict: Verdict | None) -> str:
        if verdict is Verdict.FASTER:
            return self.faster
        return self.slower if verdict is Verdict.SLOWER else self.neutral


LIGHT = Palette(
    name="light", background="#FFFFFF", surface="#F7F8FA", text="#161B22", muted="#5B6472", border="#DDE1E7",
    grid="#E6E9EE", primary="#0068A8", faster="#0068A8", slower="#B34700", neutral="#5B6472", projected="#8A3F73",
    simulated="#00775A", tint="#CFE3F1", guard_rail="#B34700", guard_rail_tint="#FDF7F2",
    runtimes={
        RuntimeId.OPENVINO: "#0072B2", RuntimeId.ONNXRUNTIME: "#C77700", RuntimeId.INDUCTOR: "#009E73",
        RuntimeId.EAGER: "#7A8190",
    },
)  # fmt: skip
DARK = Palette(
    name="dark", background="#0F1419", surface="#151B22", text="#E6EAF0", muted="#9AA4B2", border="#2C3540",
    grid="#252D37", primary="#2477B3", faster="#56B4E9", slower="#F28E4C", neutral="#9AA4B2", projected="#E0A3C8",
    simulated="#35C79A", tint="#1D4560", guard_rail="#F28E4C", guard_rail_tint="#17181A",
    runtimes={
        RuntimeId.OPENVINO: "#56B4E9", RuntimeId.ONNXRUNTIME: "#F0B429", RuntimeId.INDUCTOR: "#35C79A",
        RuntimeId.EAGER: "#9AA4B2",
    },
)  # fmt: skip


def palette() -> Palette:
    """The colours of the theme this reader sees."""
    return DARK if st.context.theme.type == "dark" else LIGHT
