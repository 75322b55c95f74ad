"""Routes and middleware put together, what happens at start, and what is printed then."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cache

from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route
from streamlit import config

from engine.settings import Settings
from engine.worker import ensure_worker
from pages.http import downloads, shares, uploads
from pages.http.auth import LOOPBACK, OwnerGuard, is_exposed, login_endpoint, owner_token
from pages.http.security import LOCAL_NAMES, SameOrigin, SecurityHeaders
from pages.parts.shell import resources


@dataclass(frozen=True)
class Site:
    """What `st.App` is given beside the script."""

    routes: list[BaseRoute]
    middleware: list[Middleware]
    lifespan: Callable[[object], AbstractAsyncContextManager[None]]


@cache
def site() -> Site:
    """The site as the environment and Streamlit's own options describe it."""
    return site_of(Settings.from_environment(), lambda: config.get_option("server.address"))


def site_of(settings: Settings, server_address: Callable[[], str | None]) -> Site:
    """`server_address` is asked late: Streamlit reads its flags after this file."""

    def exposed() -> bool:
        return is_exposed(settings, server_address())

    @cache
    def token() -> str:
        return owner_token(settings)

    def hosts() -> frozenset[str] | None:
        return None if exposed() else LOCAL_NAMES

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        print(f"Speedrail is at {address(settings, server_address(), token() if exposed() else '')}", flush=True)
        threading.Thread(target=_resume_work, args=(settings,), name="resume-work", daemon=True).start()
        yield

    return Site(
        routes=[
            *shares.ROUTES,
            *uploads.ROUTES,
            *downloads.ROUTES,
            Route("/login", login_endpoint(token), methods=["GET", "POST"]),
        ],
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(SameOrigin, hosts=hosts, public_url=settings.public_url),
            Middleware(OwnerGuard, token=token, exposed=exposed),
        ],
        lifespan=lifespan,
    )


def address(settings: Settings, server_address: str | None, token: str) -> str:
    """The address to open; a token stands behind `#`, where browsers keep it to themselves."""
    host = server_address or settings.bind
    reachable = "127.0.0.1" if host in (*LOOPBACK, "0.0.0.0", "::") else host
    base = settings.public_url or f"http://{reachable}:{config.get_option('server.port')}"
    return f"{base}/login#token={token}" if token else base


def _resume_work(settings: Settings) -> None:
    """What was queued before the last stop goes on, whether or not somebody opens a page."""
    storage = resources().storage
    if storage.experiments.unfinished() or storage.intakes.unfinished():
        ensure_worker(settings)
