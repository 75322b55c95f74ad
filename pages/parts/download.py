"""What a run leaves to take away, served by HTTP routes so that no page holds it in memory."""

from __future__ import annotations

import streamlit as st

from engine.domain.experiment import Run


def download_button(run: Run) -> None:
    """A link to `/download/<run id>`: the lowered files and a script that runs them without Speedrail."""
    st.link_button(
        "Download model", url=f"/download/{run.id}", icon=":material/download:", type="primary",
        help="The model in its runtime's format, with a short script that runs it without Speedrail",
    )  # fmt: skip


def samples_button(run: Run) -> None:
    """A link to `/samples/<run id>`: every raw sample as Parquet."""
    st.link_button(
        "Samples", url=f"/samples/{run.id}", icon=":material/table:",
        help="Every raw sample with its block, round and outlier mark, as a Parquet file",
    )  # fmt: skip
