"""Routes and middleware put together, and what is printed at start."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route
from streamlit import config

from engine.settings import Settings
from pages.http import shares, uploads
from pages.http.auth import LOOPBACK, OwnerGuard, is_exposed, login_routes_of, owner_token
from pages.http.security import LOCAL_NAMES, SameOrigin, SecurityHeaders


@cache
def _settings() -> Settings:
    return Settings.from_environment()


def _exposed() -> bool:
    return is_exposed(_settings(), config.get_option("server.address"))


@cache
def _token() -> str:
    return owner_token(_settings())


class OwnerGuardWhenExposed(OwnerGuard):
    """Asks for the token only where others can reach the dashboard."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if _exposed():
            await super().__call__(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _hosts() -> frozenset[str] | None:
    return None if _exposed() else LOCAL_NAMES


ROUTES: list[BaseRoute] = [
    *shares.ROUTES,
    *uploads.ROUTES,
    Route("/login", login_routes_of(_token), methods=["GET", "POST"]),
]
MIDDLEWARE = [
    Middleware(SecurityHeaders),
    Middleware(SameOrigin, hosts=_hosts, public_url=Settings.from_environment().public_url),
    Middleware(OwnerGuardWhenExposed, token=_token),
]


@asynccontextmanager
async def announce(_app: object) -> AsyncIterator[None]:
    """Print where the dashboard is; with the token's address where one is demanded."""
    print(f"Speedrail is at {address()}", flush=True)
    yield


def address() -> str:
    """The address to open, the owner's token behind `#` where one is demanded."""
    settings = _settings()
    port = config.get_option("server.port")
    host = config.get_option("server.address") or settings.bind
    base = settings.public_url or f"http://{'127.0.0.1' if host in (*LOOPBACK, '0.0.0.0', '::') else host}:{port}"
    return f"{base}/login#token={_token()}" if _exposed() else base
