"""Choosing a dataset from the store, or uploading one."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from engine.domain.workload import DatasetRef
from pages.parts.format import plain, plural, size
from pages.parts.shell import resources
from pages.parts.upload.zone import upload_zone

_HINT = ".txt (a text a line), CSV or JSONL (text, label, or text_a, text_b, score), NPZ (arrays named as the inputs)"


def dataset_choice(purpose: Literal["dataset", "calibration"], label: str) -> DatasetRef | None:
    """One of the stored datasets, or None for the built-in inputs."""
    pending = st.session_state.pop(f"uploaded_{purpose}", None)
    if pending:
        st.session_state[purpose] = pending
    stored = {each.id: each for each in resources().storage.datasets.list()}
    chosen = st.selectbox(
        label, ["", *stored], key=purpose, bind="query-params",
        format_func=lambda id: f"{stored[id].name}, {plural(stored[id].items, 'item')}, {size(stored[id].size_bytes)}"
        if id else "Built-in inputs",
    )  # fmt: skip
    finished = upload_zone(purpose, f"Upload a {plain(label).lower()}", _HINT, accept=".txt,.csv,.jsonl,.npz")
    if finished:
        st.session_state[f"uploaded_{purpose}"] = finished["dataset"]
        st.rerun()
    return resources().storage.datasets.get(chosen) if chosen else None
