"""Beyond loopback a guest reaches nothing but a shared report and the login page."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from engine.settings import Settings
from pages.http.auth import COOKIE, is_exposed, owner_token
from tests.http.conftest import STREAMLIT_PATHS, TOKEN


def log_in(client: TestClient, token: str = TOKEN, after: str = "/") -> int:
    answer = client.post(f"/login?next={after}", data={"token": token}, headers={"Origin": "http://team.example:8501"})
    return answer.status_code


@pytest.mark.parametrize("path", STREAMLIT_PATHS)
def test_a_guest_is_refused_everywhere(exposed: TestClient, path: str) -> None:
    assert exposed.get(path).status_code == 401
    page = exposed.get(path, headers={"Accept": "text/html"})
    assert page.status_code == 303
    assert page.headers["location"].startswith("/login?next=")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/uploads"), ("PUT", "/api/uploads/x?offset=0"), ("GET", "/api/uploads/x"),
        ("DELETE", "/api/uploads/x"), ("POST", "/api/uploads/x/finish"), ("GET", "/download/x"),
        ("POST", "/s/abc"), ("PUT", "/s/abc"), ("GET", "/s/"), ("GET", "/s/abc/def"), ("GET", "/s/..%2fmodels"),
        ("GET", "//s/abc"), ("GET", "/S/abc"), ("OPTIONS", "/models"), ("GET", "/loginx"), ("GET", "/login/"),
        ("PUT", "/login"), ("GET", "/no/such/page"),
    ],
)  # fmt: skip
def test_no_other_way_in(exposed: TestClient, method: str, path: str) -> None:
    assert exposed.request(method, path).status_code == 401


def test_a_guest_cannot_open_the_websocket(exposed: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), exposed.websocket_connect("ws://team.example:8501/_stcore/stream"):
        pass


def test_a_forged_or_foreign_cookie_is_refused(exposed: TestClient) -> None:
    for value in ("owner", TOKEN, "owner.abc.def", ""):
        exposed.cookies.set(COOKIE, value)
        assert exposed.get("/models").status_code == 401


def test_the_right_token_lets_in_and_the_websocket_too(exposed: TestClient) -> None:
    assert log_in(exposed) == 303
    cookie = exposed.cookies.get(COOKIE)
    assert cookie is not None and TOKEN not in cookie
    assert exposed.get("/models").text == "streamlit"
    with exposed.websocket_connect("ws://team.example:8501/_stcore/stream", headers={"Origin": "http://team.example:8501"}) as socket:
        assert socket.receive_text() == "streamlit"


def test_the_cookie_is_kept_from_scripts_and_other_sites(exposed: TestClient) -> None:
    answer = exposed.post("/login", data={"token": TOKEN})
    flags = answer.headers["set-cookie"].lower()
    assert "httponly" in flags and "samesite=lax" in flags and "secure" not in flags


def test_over_https_the_cookie_is_secure(client_of: Callable[..., TestClient]) -> None:
    client = client_of("https://team.example", None, BIND="0.0.0.0", OWNER_TOKEN=TOKEN)
    assert "secure" in client.post("/login", data={"token": TOKEN}).headers["set-cookie"].lower()


def test_a_wrong_token_stays_outside(exposed: TestClient) -> None:
    answer = exposed.post("/login", data={"token": "wrong"})
    assert answer.status_code == 401
    assert "This is not the owner" in answer.text
    assert "set-cookie" not in answer.headers


def test_a_new_token_ends_old_sessions(client_of: Callable[..., TestClient]) -> None:
    first = client_of("http://team.example:8501", None, BIND="0.0.0.0", OWNER_TOKEN=TOKEN)
    log_in(first)
    second = client_of("http://team.example:8501", None, BIND="0.0.0.0", OWNER_TOKEN="another token")
    second.cookies.set(COOKIE, first.cookies[COOKIE])
    assert second.get("/models").status_code == 401


def test_a_program_sends_the_token_itself(exposed: TestClient) -> None:
    assert exposed.get("/models", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert exposed.get("/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert exposed.get("/models", headers={"Authorization": f"Basic {TOKEN}"}).status_code == 401


@pytest.mark.parametrize("after", ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "/\t/evil.example"])
def test_login_never_leads_to_another_site(exposed: TestClient, after: str) -> None:
    answer = exposed.post("/login", params={"next": after}, data={"token": TOKEN})
    assert answer.headers["location"] == "/"


def test_login_leads_back_to_the_page_that_was_wanted(exposed: TestClient) -> None:
    refused = exposed.get("/experiment?id=a%20b", headers={"Accept": "text/html"})
    answer = exposed.post(refused.headers["location"], data={"token": TOKEN})
    assert answer.headers["location"] == "/experiment?id=a%20b"


def test_the_login_page_cannot_be_filled_with_markup(exposed: TestClient) -> None:
    answer = exposed.get("/login", params={"next": '/"><script>alert(1)</script>'})
    assert "<script>alert" not in answer.text
    assert "script-src 'nonce-" in answer.headers["content-security-policy"]


def test_on_loopback_nothing_is_asked(client_of: Callable[..., TestClient]) -> None:
    client = client_of()
    assert client.get("/models").text == "streamlit"
    with client.websocket_connect("ws://localhost/_stcore/stream") as socket:
        assert socket.receive_text() == "streamlit"


@pytest.mark.parametrize(
    ("variables", "server_address", "expected"),
    [
        ({}, "127.0.0.1", False),
        ({"SPEEDRAIL_BIND": "localhost"}, "localhost", False),
        ({"SPEEDRAIL_BIND": "0.0.0.0"}, "127.0.0.1", True),
        ({}, "0.0.0.0", True),
        ({}, None, True),
        ({"SPEEDRAIL_PUBLIC_URL": "https://team.example"}, "127.0.0.1", True),
        ({"SPEEDRAIL_PUBLIC_URL": "http://localhost:8501"}, "127.0.0.1", False),
    ],
)
def test_exposed_by_any_of_three_ways(variables: dict[str, str], server_address: str | None, expected: bool) -> None:
    assert is_exposed(Settings.from_environment(variables), server_address) is expected


def test_a_made_token_is_kept_and_private(tmp_path: Path) -> None:
    settings = Settings.from_environment({"SPEEDRAIL_HOME": str(tmp_path / "home")})
    token = owner_token(settings)
    assert len(token) >= 32
    assert owner_token(settings) == token
    assert stat.S_IMODE((tmp_path / "home" / "owner_token").stat().st_mode) == 0o600
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["owner_token"]
