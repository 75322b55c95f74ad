"""The owner's token: who may pass once the dashboard is bound beyond loopback.

Then everything but `GET /s/<token>` and the login page itself demands it, Streamlit's
own websocket, health, static and media routes included. The browser holds a signed
cookie, never the token; a program may send `Authorization: Bearer <token>`.
"""

from __future__ import annotations

import hmac
import re
import secrets
from asyncio import sleep
from collections.abc import Awaitable, Callable
from html import escape
from urllib.parse import quote, urlsplit

from itsdangerous import BadSignature, TimestampSigner
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.settings import Settings

COOKIE = "speedrail_owner"
COOKIE_SECONDS = 30 * 24 * 3600
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SHARED = re.compile(r"/s/[A-Za-z0-9_-]+")
_WRONG_TOKEN_SECONDS = 0.5


def is_exposed(settings: Settings, server_address: str | None) -> bool:
    """Whether others can reach this dashboard: by its settings, by where the server
    really listens (None: everywhere), or through the public URL of a proxy."""
    public = urlsplit(settings.public_url).hostname
    return (
        not settings.is_loopback
        or (server_address or "0.0.0.0") not in LOOPBACK
        or (public is not None and public not in LOOPBACK)
    )


def owner_token(settings: Settings) -> str:
    """The token that was set, or one made on first need and kept, readable by the owner only."""
    if settings.owner_token:
        return settings.owner_token
    kept = settings.home / "owner_token"
    settings.home.mkdir(parents=True, exist_ok=True)
    made = kept.with_name(f".owner_token.{secrets.token_hex(4)}")
    made.touch(mode=0o600)
    made.write_text(secrets.token_urlsafe(32))
    try:
        # appears whole or not at all, and the first of several processes wins
        kept.hardlink_to(made)
    except FileExistsError:
        pass
    finally:
        made.unlink()
    return kept.read_text().strip()


class OwnerGuard:
    """Where others can reach the dashboard, lets the owner through and a guest only to
    a shared report and the login page."""

    def __init__(self, app: ASGIApp, token: Callable[[], str], exposed: Callable[[], bool]) -> None:
        self._app = app
        self._token = token
        self._exposed = exposed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or not self._exposed() or self._may_pass(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            # closed before it was accepted: the server answers 403
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _refusal(Request(scope))(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        path = scope["path"]
        if scope["type"] == "http":
            if scope["method"] in ("GET", "HEAD") and _SHARED.fullmatch(path):
                return True
            if scope["method"] in ("GET", "HEAD", "POST") and path == "/login":
                return True
        return is_owner(HTTPConnection(scope), self._token())


def is_owner(connection: HTTPConnection, token: str) -> bool:
    """Whether a request carries the owner's cookie or the token itself."""
    scheme, _, given = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), token.encode()):
        return True
    try:
        _signer(token).unsign(connection.cookies.get(COOKIE, ""), max_age=COOKIE_SECONDS)
    except BadSignature:
        return False
    return True


def login_endpoint(token: Callable[[], str]) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of `/login`: a page on GET, the cookie on POST with the right token."""

    async def login(request: Request) -> Response:
        after = _local_path(request.query_params.get("next", "/"))
        if request.method != "POST":
            return _login_page(after)
        form = await request.form(max_files=0, max_fields=4, max_part_size=4096)
        given = str(form.get("token", ""))
        if not hmac.compare_digest(given.strip().encode(), token().encode()):
            await sleep(_WRONG_TOKEN_SECONDS)
            return _login_page(after, "This is not the owner's token. It was printed where the dashboard was started.")
        response = RedirectResponse(after, status_code=303)
        response.set_cookie(
            COOKIE,
            _signer(token()).sign(b"owner").decode(),
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return response

    return login


def _signer(token: str) -> TimestampSigner:
    return TimestampSigner(token, salt=COOKIE)


def _refusal(request: Request) -> Response:
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(wanted, safe='')}", status_code=303)
    return PlainTextResponse("Log in with the owner's token at /login.\n", status_code=401)


def _local_path(path: str) -> str:
    """A path on this site only: never another host, however it is spelled."""
    return path if re.fullmatch(r"/(?![/\\])[^\\\x00-\x1f]*", path) else "/"


def _login_page(after: str, problem: str = "") -> HTMLResponse:
    nonce = secrets.token_urlsafe(16)
    page = _PAGE.format(
        nonce=nonce,
        action=escape(f"/login?next={quote(after, safe='')}"),
        problem=f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else "",
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    return HTMLResponse(
        page,
        status_code=401 if problem else 200,
        headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"},
    )


# The address printed at start carries the token behind `#`, which browsers never send:
# it stays out of logs and referrers, and the page posts it.
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in · Speedrail</title>
<style nonce="{nonce}">
:root {{ color-scheme: light dark; font: 15px/1.5 Inter, system-ui, sans-serif; --line: #DDE1E7; --muted: #5B6472;
  --accent: #0068A8; --bad: #9A3D00; }}
@media (prefers-color-scheme: dark) {{ :root {{ --line: #2C3540; --muted: #9AA4B2; --accent: #2477B3; --bad: #F6AE7E; }}
  body {{ background: #0F1419; color: #E6EAF0; }} }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; }}
main {{ width: min(360px, calc(100vw - 32px)); border: 1px solid var(--line); border-radius: 8px; padding: 24px;
  box-sizing: border-box; }}
h1 {{ font-size: 24px; margin: 0 0 4px; }} p {{ margin: 0 0 16px; color: var(--muted); }}
label {{ display: block; font-weight: 600; margin-bottom: 4px; }}
input {{ font: inherit; width: 100%; box-sizing: border-box; padding: 8px 12px; border: 1px solid var(--line);
  border-radius: 6px; background: transparent; color: inherit; }}
button {{ font: inherit; font-weight: 600; margin-top: 16px; width: 100%; padding: 8px 12px; border: 0;
  border-radius: 6px; background: var(--accent); color: #fff; cursor: pointer; }}
.problem {{ color: var(--bad); }}
</style></head><body><main>
<h1>Speedrail</h1><p>This dashboard belongs to someone. Its token was printed where it was started.</p>
{problem}
<form method="post" action="{action}">
<label for="token">Owner's token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button type="submit">Log in</button>
</form></main>
<script nonce="{nonce}">
const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) {{
  history.replaceState(null, "", location.pathname + location.search);
  document.getElementById("token").value = token;
  document.forms[0].submit();
}}
</script></body></html>
"""
