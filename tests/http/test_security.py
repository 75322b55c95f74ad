"""Headers on every answer; requests that other sites make a browser send are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from pages.http.security import CONTENT_POLICY, HEADERS


@pytest.mark.parametrize("path", ["/", "/_stcore/health", "/no/such/page", "/static/js/index.js"])
def test_every_answer_carries_the_headers(client_of: Callable[..., TestClient], path: str) -> None:
    headers = client_of().get(path).headers
    assert {name: headers[name] for name in HEADERS} == HEADERS


def test_the_policy_lets_nothing_out_and_nobody_frame() -> None:
    policy = dict(part.split(" ", 1) for part in CONTENT_POLICY.split("; "))
    assert policy["frame-ancestors"] == "'none'"
    assert policy["object-src"] == "'none'"
    assert policy["img-src"] == "'self' data: blob:"
    assert "'unsafe-inline'" not in policy["script-src"] and "sha256-" in policy["script-src"]
    assert "http" not in CONTENT_POLICY and "*" not in CONTENT_POLICY


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://localhost:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_site_cannot_write_or_open_the_websocket(
    client_of: Callable[..., TestClient], headers: dict[str, str]
) -> None:
    client = client_of()
    assert client.post("/api/uploads", headers=headers, json={}).status_code == 403
    assert client.put("/api/uploads/x?offset=0", headers=headers, content=b"x").status_code == 403
    assert client.delete("/api/uploads/x", headers=headers).status_code == 403
    assert client.post("/login", headers=headers, data={"token": "x"}).status_code == 403
    if "Origin" in headers:
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("ws://localhost/_stcore/stream", headers=headers):
            pass


def test_our_own_page_and_programs_may_write(client_of: Callable[..., TestClient]) -> None:
    client = client_of()
    for headers in ({"Origin": "http://localhost"}, {"Sec-Fetch-Site": "same-origin"}, {}):
        assert client.post("/", headers=headers).text == "streamlit"


def test_behind_a_proxy_the_public_address_counts(client_of: Callable[..., TestClient]) -> None:
    client = client_of("http://inner:8501", None, PUBLIC_URL="https://team.example", OWNER_TOKEN="t" * 32)
    bearer = {"Authorization": f"Bearer {'t' * 32}"}
    assert client.post("/", headers={"Origin": "https://team.example", **bearer}).status_code == 200
    assert client.post("/", headers={"Origin": "https://other.example", **bearer}).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8501", "127.0.0.1.evil.example", ""])
def test_on_loopback_foreign_names_are_refused(client_of: Callable[..., TestClient], host: str) -> None:
    assert client_of().get("/", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:8501", "127.0.0.1:1", "[::1]:8501"])
def test_on_loopback_its_own_names_pass(client_of: Callable[..., TestClient], host: str) -> None:
    assert client_of().get("/", headers={"Host": host}).status_code == 200
