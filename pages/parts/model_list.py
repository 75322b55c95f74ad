"""The list of models, and the ways a model comes in: upload, server path, sample."""

from __future__ import annotations

import streamlit as st

from engine.domain.errors import SpeedrailError
from engine.intake.places import Sample, allowed_path, samples
from pages.http.uploads import start_intake
from pages.parts import intakes
from pages.parts.format import ago, count, plain, plural, ratio, size
from pages.parts.server_paths import candidates
from pages.parts.shell import empty_state, page_header, resources, show_problem
from pages.parts.upload.zone import upload_zone
from storage import ArtifactSummary

_ON_A_PAGE = 20


def show() -> None:
    found = resources().storage.artifacts.list(limit=1)
    actions = page_header("Models")
    with actions:
        _server_path()
        if found.total:
            _sample_menu()
    finished = upload_zone(
        "model",
        "Drop a model here",
        "Hugging Face folder or archive (config.json with safetensors or GGUF), .gguf, .onnx. Any size; resumes after a break.",
        accept=".zip,.tar,.tgz,.gz,.xz,.bz2,.gguf,.onnx",
        folders=True,
        primary=bool(found.total),
    )
    if finished:
        intakes.watch(finished["intake"])
    intakes.show()
    if found.total:
        _list()
    else:
        _empty()


def _empty() -> None:
    with empty_state(
        "No models yet", "Models you upload are listed here, with what was learned of them and their best speedup so far.",
        icon=":material/deployed_code:", key="models",
    ):  # fmt: skip
        if st.button("Try a sample", type="primary", icon=":material/play_arrow:", key="try_sample"):
            _take_sample(samples()[0])


def _sample_menu() -> None:
    with st.popover("Try a sample", icon=":material/science:", key="samples"):
        for sample in samples():
            with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
                with st.container(gap=None, width="stretch"):
                    st.markdown(f"**{plain(sample.title)}**")
                    st.caption(plain(sample.description))
                if st.button("Add", key=f"sample_{sample.id}"):
                    _take_sample(sample)


def _take_sample(sample: Sample) -> None:
    _start(str(sample.path), "sample", sample.title)


def _server_path() -> None:
    settings = resources().settings
    with st.popover("Server path", icon=":material/folder_open:", help="A model that already lies on this server"):
        places = candidates(settings.model_roots)
        chosen = st.selectbox(
            "Folder or file on the server", places, index=None, accept_new_options=True, key="server_path",
            placeholder="Choose, or type a path" if places else "Type a path",
        )  # fmt: skip
        st.caption(f"Allowed below {plain(', '.join(map(str, settings.model_roots)))}")
        if st.button("Add model", key="add_server_path", type="primary", disabled=not chosen) and chosen:
            try:
                path = allowed_path(chosen, settings.model_roots)
            except SpeedrailError as error:
                show_problem(error)
            else:
                _start(str(path), str(path), path.stem if path.is_file() else path.name)


def _start(path: str, source: str, name: str) -> None:
    try:
        intakes.watch(start_intake(resources(), path, source, name))
    except SpeedrailError as error:
        show_problem(error)
        return
    st.rerun()


def _list() -> None:
    text = ""
    storage = resources().storage
    everything = storage.artifacts.list(limit=1).total
    if everything > _ON_A_PAGE // 2:
        text = st.text_input(
            "Search models", placeholder="Name, source or sha256", key="q", bind="query-params",
            label_visibility="collapsed", icon=":material/search:",
        ) or ""  # fmt: skip
    pages = -(-storage.artifacts.list(text, limit=1).total // _ON_A_PAGE)
    page = 1
    below = st.container()
    if pages > 1:
        page = st.pagination(pages, key="page", bind="query-params")
    found = storage.artifacts.list(text, (page - 1) * _ON_A_PAGE, _ON_A_PAGE)
    with below:
        st.caption(plural(found.total, "model"))
        for summary in found.items:
            _row(summary)


def _row(summary: ArtifactSummary) -> None:
    artifact, card = summary.artifact, summary.artifact.card
    with (
        st.container(border=True, key=f"model_{artifact.short_id}"),
        st.container(horizontal=True, vertical_alignment="center"),
    ):
        with st.container(gap="xxsmall", key=f"link_{artifact.short_id}"):
            st.page_link("pages/models.py", label=f"**{plain(artifact.name)}**", query_params={"id": artifact.id})
            st.caption(
                f"{card.task.label} · {card.format.label} · {count(card.parameters)} parameters · "
                f"{size(artifact.size_bytes)} · {ago(artifact.created_at)}"
            )
        with st.container(gap="xxsmall", width=120):
            if summary.best_speedup:
                st.markdown(f"**{ratio(summary.best_speedup)}** faster")
            else:
                st.caption("Not measured yet")
            if summary.runs:
                st.caption(f"best of {plural(summary.runs, 'run')}")
        st.page_link(
            "pages/new_experiment.py", label="New experiment", icon=":material/add:", width="content",
            query_params={"artifact": artifact.id},
        )  # fmt: skip
