"""Choosing a dataset from the store, or uploading one."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from engine.domain.workload import DatasetRef
from pages.parts.format import plain, plural, size
from pages.parts.forms import linked_choice
from pages.parts.shell import resources
from pages.parts.upload.zone import upload_zone

_HINT = ".txt (a text a line), CSV or JSONL (text, label, or text_a, text_b, score), NPZ (arrays named as the inputs)"


def dataset_choice(purpose: Literal["dataset", "calibration"], label: str) -> DatasetRef | None:
    """One of the stored datasets, or None for the built-in inputs."""
    stored = {each.id: each for each in resources().storage.datasets.list()}

    def words(id: str) -> str:
        if not id:
            return "Built-in inputs"
        labelled = ", labelled" if stored[id].labelled else ""
        return f"{stored[id].name}: {plural(stored[id].items, 'item')}{labelled}, {size(stored[id].size_bytes)}"

    chosen = linked_choice(label, ["", *stored], purpose, words)
    finished = upload_zone(purpose, f"Upload a {plain(label).lower()}", _HINT, accept=".txt,.csv,.jsonl,.npz")
    if finished.get("dataset"):
        st.query_params[purpose] = finished["dataset"]
        st.session_state.pop(f"choice_{purpose}", None)
        st.rerun()
    return resources().storage.datasets.get(chosen) if chosen else None
