"""New experiment: what shall we try?"""

from __future__ import annotations

from collections import Counter

import streamlit as st

from engine.domain.artifact import Artifact
from pages.parts import choosing, launching
from pages.parts.format import count, plain, size
from pages.parts.forms import linked_choice
from pages.parts.shell import Crumb, empty_state, page_header, resources
from pages.parts.workload_form import question_form

_LISTED = 500


def render() -> None:
    page_header("New experiment", [Crumb("Models", "models.py")])
    artifacts = {s.artifact.id: s.artifact for s in resources().storage.artifacts.list(limit=_LISTED).items}
    if not artifacts:
        with empty_state(
            "There is no model to try things on yet", "Upload one, or take a sample; then choose what to try here.",
            icon=":material/deployed_code:",
        ):  # fmt: skip
            if st.button("Go to Models", type="primary", key="go_to_models"):
                st.switch_page("pages/models.py")
        return
    form, offer = st.columns([7, 5], gap="large")
    with form:
        artifact = _model(artifacts)
        question = question_form(artifact.card)
        others = [f"{a.name} {a.short_id}" for a in artifacts.values() if a.id != artifact.id and a.card.task is artifact.card.task]
        choice = choosing.choice_form(artifact.card, others)
    with offer, st.container(key="offer"):
        launching.offer(artifact, question, choice)


def _model(artifacts: dict[str, Artifact]) -> Artifact:
    st.subheader("Model", anchor=False)
    names = Counter(artifact.name for artifact in artifacts.values())

    def words(id: str) -> str:
        artifact = artifacts[id]
        return artifact.name if names[artifact.name] == 1 else f"{artifact.name} ({artifact.short_id})"

    chosen = linked_choice("Model", list(artifacts), "artifact", words, label_visibility="collapsed")
    artifact = artifacts[chosen]
    card = artifact.card
    with st.container(horizontal=True, gap="xsmall"):
        st.badge(card.task.label, icon=":material/label:")
        st.badge(card.format.label, icon=":material/inventory_2:", color="gray")
        st.badge(plain(card.architecture), icon=":material/account_tree:", color="gray")
        st.badge(f"{count(card.parameters)} parameters", color="gray")
        st.badge(size(artifact.size_bytes), color="gray")
    return artifact


render()
