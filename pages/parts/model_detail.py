"""One model: what intake learned of it, and what can be done with it."""

from __future__ import annotations

import streamlit as st

from engine.domain.artifact import Artifact, ModelCard, TensorSpec
from engine.domain.errors import SpeedrailError
from pages.parts.format import count, moment, plain, plural, ratio, size
from pages.parts.shell import Badge, Crumb, page_header, resources, show_problem
from storage import ArtifactSummary

_SIZES = (
    ("hidden_size", "Hidden size"), ("intermediate_size", "FFN width"), ("num_layers", "Layers"), ("num_heads", "Heads"),
    ("num_kv_heads", "Key-value heads"), ("head_dim", "Head size"), ("vocab_size", "Vocabulary"),
    ("max_positions", "Longest input, tokens"), ("image_size", "Image side, px"), ("num_channels", "Image channels"),
    ("num_labels", "Classes"),
)  # fmt: skip


def show(artifact_id: str) -> None:
    try:
        artifact = resources().storage.artifacts.get(artifact_id)
    except SpeedrailError as error:
        page_header("Model", [Crumb("Models", "models.py")])
        show_problem(error)
        return
    summary = _summary(artifact)
    _header(artifact, summary)
    for note in artifact.card.notes:
        st.info(plain(note), icon=":material/info:")
    with st.grid(4, min_column_width=160):
        st.metric("Parameters", count(artifact.card.parameters), border=True)
        st.metric("Size", size(artifact.size_bytes), border=True)
        st.metric("Best speedup", ratio(summary.best_speedup), border=True)
        st.metric("Runs", str(summary.runs), border=True)
    left, right = st.columns(2, gap="medium")
    with left:
        _identity(artifact)
    with right:
        _shape(artifact.card)


def _summary(artifact: Artifact) -> ArtifactSummary:
    found = resources().storage.artifacts.list(artifact.id, limit=1).items
    return found[0] if found else ArtifactSummary(artifact, 0, None)


def _header(artifact: Artifact, summary: ArtifactSummary) -> None:
    card = artifact.card
    actions = page_header(
        artifact.name,
        [Crumb("Models", "models.py")],
        [
            Badge(card.task.label, ":material/label:", "blue"),
            Badge(card.format.label, ":material/inventory_2:"),
            Badge(card.architecture, ":material/account_tree:"),
        ],
    )
    with actions:
        _rename(artifact)
        _delete(artifact, summary)
        if st.button("New experiment", type="primary", icon=":material/add:", key="new_experiment"):
            st.switch_page("pages/new_experiment.py", query_params={"artifact": artifact.id})


def _rename(artifact: Artifact) -> None:
    with st.popover("Rename", icon=":material/edit:"), st.form("rename", border=False):
        name = st.text_input("Name", artifact.name, max_chars=200)
        if st.form_submit_button("Save", type="primary") and name and name.strip():
            resources().storage.artifacts.rename(artifact.id, name.strip())
            st.rerun()


def _delete(artifact: Artifact, summary: ArtifactSummary) -> None:
    storage = resources().storage
    with st.popover("Delete", icon=":material/delete:"):
        held = storage.files.size(artifact.id)
        with_runs = False
        if summary.runs:
            st.markdown(f"**{plain(artifact.name)}** holds {size(held)} and has {plural(summary.runs, 'run')}.")
            with_runs = st.checkbox("Delete its experiments and runs, with their saved models", key="delete_runs")
        else:
            st.markdown(f"**{plain(artifact.name)}** holds {size(held)}. No run used it.")
        st.caption("This cannot be undone.")
        blocked = bool(summary.runs) and not with_runs
        if st.button("Delete for good", type="primary", key="delete_model", disabled=blocked):
            try:
                freed = storage.artifacts.delete(artifact.id, with_runs=with_runs)
            except SpeedrailError as error:
                show_problem(error)
                return
            st.toast(f"Deleted; {size(freed)} are free again.", icon=":material/check_circle:")
            st.switch_page("pages/models.py")


def _identity(artifact: Artifact) -> None:
    card = artifact.card
    st.subheader("Origin", anchor=False)
    with st.container(border=True, gap="small"):
        _facts(
            [
                ("Added", moment(artifact.created_at, st.context.timezone)),
                ("Architecture", card.architecture),
                ("Weights stored as", card.dtype),
            ]
        )
        for label, text in (("Source", artifact.source or "unknown"), ("sha256 over the files", artifact.id)):
            st.caption(label)
            st.code(text, language=None, wrap_lines=True)
    st.subheader("Inputs and outputs", anchor=False)
    st.dataframe(
        [_tensor("input", each) for each in card.inputs] + [_tensor("output", each) for each in card.outputs],
        hide_index=True, row_height=34,
    )  # fmt: skip


def _shape(card: ModelCard) -> None:
    st.subheader("Shape", anchor=False)
    with st.container(border=True):
        _facts([(label, f"{value:,}".replace(",", " ")) for name, label in _SIZES if (value := getattr(card, name))])
    if card.operators:
        st.subheader("Operators", anchor=False)
        most = sorted(card.operators.items(), key=lambda item: -item[1])
        st.dataframe([{"Operator": name, "Count": n} for name, n in most], hide_index=True, row_height=34)


def _facts(pairs: list[tuple[str, str]]) -> None:
    for label, value in pairs:
        with st.container(horizontal=True, horizontal_alignment="distribute", gap="medium"):
            st.caption(label, width="content")
            st.markdown(f":small[{plain(value)}]", width="content", text_alignment="right")


def _tensor(kind: str, spec: TensorSpec) -> dict[str, str]:
    return {"": kind, "Name": spec.name, "Type": spec.dtype, "Shape": " × ".join(map(str, spec.shape))}
