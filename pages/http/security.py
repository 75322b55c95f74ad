"""Headers and checks every answer and every request pass, Streamlit's own included."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import streamlit
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def _inline_scripts() -> str:
    """Hashes of the scripts that stand in Streamlit's own page, so that no others may."""
    page = (Path(streamlit.__file__).parent / "static" / "index.html").read_bytes()
    bodies = re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(body).digest()).decode()}'" for body in bodies)


# Streamlit needs: inline styles (emotion), blob scripts (components), eval (Plotly's WebGL).
# Nothing may be fetched from or framed by another site.
CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        f"script-src 'self' {_inline_scripts()} 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
}


class SecurityHeaders:
    """Adds what an answer does not set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class SameOrigin:
    """Refuses what another site makes a browser do: writes, and websockets.

    Reached by loopback only (`hosts()` returns names), it also refuses foreign names in
    `Host`, by which a web page could otherwise reach it (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, hosts: Callable[[], frozenset[str] | None], public_url: str = "") -> None:
        self._app = app
        self._hosts = hosts
        self._public = urlsplit(public_url).netloc

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        writes = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        if self._known_host(headers) and (not writes or self._own_page(headers)):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await PlainTextResponse("This request did not come from the dashboard itself.\n", 403)(scope, receive, send)

    def _known_host(self, headers: Headers) -> bool:
        allowed = self._hosts()
        return allowed is None or urlsplit(f"//{headers.get('host', '')}").hostname in allowed

    def _own_page(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None:
            # programs send neither; browsers send at least one with every write
            return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
        return urlsplit(origin).netloc in {headers.get("host"), self._public} - {"", None}
