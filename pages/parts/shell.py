"""What all pages share: the header, empty states, errors, and the way to storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from engine.domain.errors import Problem, SpeedrailError
from engine.queue import Queue
from engine.settings import Settings
from pages.parts.format import plain
from storage import Storage, open_storage

Colour = Literal["blue", "green", "orange", "red", "violet", "gray"]


@dataclass(frozen=True, slots=True)
class Resources:
    """What a page asks and calls; one for the whole dashboard process."""

    settings: Settings
    storage: Storage
    queue: Queue


@st.cache_resource(show_spinner=False)
def _open(settings: Settings) -> Resources:
    return Resources(settings, open_storage(settings), Queue(settings))


def resources() -> Resources:
    """Storage, settings and queue, opened once for each distinct set of settings."""
    return _open(Settings.from_environment())


@dataclass(frozen=True, slots=True)
class Crumb:
    """A step of the way to this page. `page` is a file of pages/ (`models.py`); empty: text only."""

    label: str
    page: str = ""
    query: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Badge:
    """A small fact beside the title."""

    label: str
    icon: str = ""
    colour: Colour = "gray"


def page_header(title: str, breadcrumbs: Sequence[Crumb] = (), badges: Sequence[Badge] = ()) -> DeltaGenerator:
    """Breadcrumbs, title and badges; returns the container for the page's actions, at the right.

    Titles, crumbs and badges may be users' words: they are never read as Markdown. The
    title also names the browser's tab.
    """
    st.set_page_config(page_title=f"{title} · Speedrail")
    with st.container(key="page_header", gap="xxsmall"):
        if breadcrumbs:
            with st.container(horizontal=True, gap="xxsmall", key="breadcrumbs", vertical_alignment="center"):
                for crumb in breadcrumbs:
                    _crumb(crumb)
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.title(plain(title), anchor=False, width="content")
            actions = st.container(horizontal=True, horizontal_alignment="right", width="content", gap="small")
        if badges:
            with st.container(horizontal=True, gap="xsmall", key="badges"):
                for badge in badges:
                    st.badge(plain(badge.label), icon=badge.icon or None, color=badge.colour)
    return actions


def _crumb(crumb: Crumb) -> None:
    if crumb.page:
        st.page_link(f"pages/{crumb.page}", label=plain(crumb.label), query_params=crumb.query, width="content")
    else:
        st.caption(plain(crumb.label), width="content")
    st.caption("/", width="content")


def empty_state(sentence: str, hint: str, *, icon: str, key: str = "empty") -> DeltaGenerator:
    """A bordered box that says what will be here; returns the container for its one button."""
    with st.container(
        border=True, height=320, horizontal_alignment="center", vertical_alignment="center", key=f"{key}_state"
    ):
        st.markdown(f":gray[{icon}]", width="content")
        st.markdown(f"**{sentence}**", width="content", text_alignment="center")
        st.caption(hint, width="content", text_alignment="center")
        return st.container(width="content", horizontal=True, horizontal_alignment="center")


def show_problem(problem: SpeedrailError | Problem) -> None:
    """What is wrong, what to do about it, and the detail folded below."""
    data = problem.as_problem() if isinstance(problem, SpeedrailError) else problem
    place = f"{plain(data.where)}: " if data.where else ""
    mend = f"\n\n{plain(data.mend)}" if data.mend else ""
    st.error(f"**{place}{plain(data.what)}**{mend}", icon=":material/error:")
    if data.detail:
        with st.expander("Detail for a developer", type="compact"):
            st.code(data.detail, language=None, wrap_lines=True)
