"""An installation of its own for each test of a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit import config
from streamlit.testing.v1 import AppTest

import pages.parts.navigation  # noqa: F401  (tells Streamlit that pages/ is not its own kind of folder)
from engine.settings import Settings
from storage import Storage, open_storage

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """Storage of the home that `resources()` finds."""
    monkeypatch.setenv("SPEEDRAIL_HOME", str(settings.home))
    return open_storage(settings)


@pytest.fixture
def open_page(home: Storage) -> Callable[..., AppTest]:
    """Opens a page by its file's name and query, as the dashboard shows it."""

    config.set_option("client.showErrorDetails", "full")

    def open_it(name: str, *, query: dict[str, str | list[str]] | None = None) -> AppTest:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
        app.switch_page(f"pages/{name}.py")
        for key, value in (query or {}).items():
            app.query_params[key] = value
        app.run()
        assert not app.exception, [(e.message, e.stack_trace) for e in app.exception]
        return app

    return open_it


def words_of(app: AppTest) -> str:
    """All text a reader sees, without escapes."""
    kinds = ("title", "subheader", "markdown", "caption", "error", "info", "warning", "code")
    found = " ".join(str(element.value) for kind in kinds for element in getattr(app, kind))
    return found.replace("\\", "").replace("\u2060", "").replace("\u200b", "")
