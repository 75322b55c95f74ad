"""A site in a home of its own, around stand-ins for Streamlit's routes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from engine.settings import Settings
from pages.http.site import site_of
from storage import Storage, open_storage

TOKEN = "the-owner's-token-0123456789"
STREAMLIT_PATHS = (
    "/", "/models", "/experiment", "/_stcore/health", "/_stcore/host-config", "/_stcore/metrics",
    "/_stcore/agent/openapi.json", "/static/js/index.js", "/media/abc.png", "/component/x/y.js",
    "/app/static/Inter-tnum.woff2", "/_stcore/bidi-components/x/y.js",
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home that `resources()` finds, too."""
    place = tmp_path / "home"
    for name in ("DATABASE_URL", "ARTIFACTS_URL", "BIND", "OWNER_TOKEN", "PUBLIC_URL", "MODEL_ROOTS", "MAX_UPLOAD_BYTES"):
        monkeypatch.delenv(f"SPEEDRAIL_{name}", raising=False)
    monkeypatch.setenv("SPEEDRAIL_HOME", str(place))
    return place


@pytest.fixture
def storage(home: Path) -> Storage:
    return open_storage(Settings.from_environment())


@pytest.fixture
def client_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TestClient]]:
    """Makes a client of a site with these variables (`BIND="0.0.0.0"`)."""

    def make(base_url: str = "http://localhost", server_address: str | None = "127.0.0.1", **variables: str) -> TestClient:
        for name, value in variables.items():
            monkeypatch.setenv(f"SPEEDRAIL_{name}", value)
        site = site_of(Settings.from_environment(), lambda: server_address)

        async def streamlit(_request: object) -> PlainTextResponse:
            return PlainTextResponse("streamlit")

        async def socket(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text("streamlit")
            await websocket.close()

        stand_ins = [Route(path, streamlit, methods=["GET", "POST", "PUT"]) for path in STREAMLIT_PATHS]
        app = Starlette(
            routes=[*site.routes, *stand_ins, WebSocketRoute("/_stcore/stream", socket)], middleware=site.middleware
        )
        return TestClient(app, base_url=base_url, follow_redirects=False)

    yield make


@pytest.fixture
def exposed(client_of: Callable[..., TestClient]) -> TestClient:
    """A guest of a dashboard that others can reach."""
    return client_of("http://team.example:8501", None, BIND="0.0.0.0", OWNER_TOKEN=TOKEN)
