"""The accelerated model as a zip, served by an HTTP route so that no page holds it in memory."""

from __future__ import annotations

import streamlit as st

from engine.domain.experiment import Run


def download_button(run: Run) -> None:
    """A link to `/download/<run id>`: the lowered files and a script that runs them without Speedrail."""
    st.link_button(
        "Download model", url=f"/download/{run.id}", icon=":material/download:", type="primary",
        help="The model in its runtime's format, with a short script that runs it without Speedrail",
    )  # fmt: skip
