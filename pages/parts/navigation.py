"""The pages, their addresses and the frame around them."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.navigation.page import Page
from streamlit.runtime.pages_manager import PagesManager

_ROOT = Path(__file__).parents[2]
_SIDEBAR_WIDTH = 232
_PAGES: tuple[tuple[str, str, str, bool], ...] = (
    ("models", "Models", "deployed_code", True),
    ("new_experiment", "New experiment", "add_circle", True),
    ("experiment", "Experiments", "science", True),
    ("run", "Run", "timeline", False),
    ("history", "History", "history", True),
    ("compare", "Compare", "compare_arrows", True),
    ("hardware", "Hardware", "memory", True),
)

# A folder named pages makes Streamlit draw its own menu of files for the first reader,
# until `st.navigation` has run once. There is no option that says otherwise.
PagesManager.uses_pages_directory = False


def navigate() -> Page:
    """The page that the address names, with the sidebar and the look drawn around it."""
    st.set_page_config(
        page_title="Speedrail", page_icon=str(_ROOT / "static" / "mark.svg"), layout="wide",
        initial_sidebar_state=_SIDEBAR_WIDTH,
    )
    dark = st.context.theme.type == "dark"
    st.logo(
        str(_ROOT / "static" / f"logo-{'dark' if dark else 'light'}.svg"),
        size="large",
        icon_image=str(_ROOT / "static" / "mark.svg"),
    )
    st.html(_ROOT / "static" / "look.css")
    return st.navigation(
        [
            st.Page(
                f"pages/{file}.py",
                title=title,
                icon=f":material/{icon}:",
                url_path=file,
                default=file == "models",
                visibility="visible" if visible else "hidden",
            )
            for file, title, icon, visible in _PAGES
        ]
    )
