"""`GET /s/<token>`: a shared experiment as one HTML page, without a Streamlit session.

Read-only by construction: nothing is served here but the rendered report. Its policy
lets it fetch nothing, and `sandbox` keeps its scripts from this site's cookies.
"""

from __future__ import annotations

import re

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from engine.domain.errors import NotFound
from pages.parts.shell import resources
from storage.views import Share

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
    "font-src data:; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "sandbox allow-scripts allow-downloads allow-popups"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
}
_GONE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Not shared · Speedrail</title>
<style>:root{color-scheme:light dark;font:15px/1.5 Inter,system-ui,sans-serif}
body{margin:0;min-height:100vh;display:grid;place-items:center}main{max-width:420px;padding:24px}
h1{font-size:24px;margin:0 0 8px}p{margin:0;opacity:.75}</style></head>
<body><main><h1>This link shows nothing any more</h1>
<p>It has expired, was revoked, or was cut off. Ask whoever sent it for a new one.</p></main></body></html>"""


async def shared(request: Request) -> Response:
    """The report; with `?download` as a file. 404 for a token that is unknown, expired or revoked."""
    found = await run_in_threadpool(_render, request.path_params["token"])
    if found is None:
        return HTMLResponse(_GONE, status_code=404, headers=_HEADERS)
    share, page = found
    headers = dict(_HEADERS)
    if "download" in request.query_params:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", share.experiment_id)[:40]
        headers["Content-Disposition"] = f'attachment; filename="speedrail-{name}.html"'
    return HTMLResponse(page, headers=headers)


def _render(token: str) -> tuple[Share, str] | None:
    storage = resources().storage
    share = storage.shares.by_token(token)
    if share is None:
        return None
    # brings Plotly: only whoever opens a report waits for it
    from pages.parts.report import render_report

    try:
        return share, render_report(storage, share.experiment_id)
    except NotFound:
        return None


ROUTES = [Route("/s/{token}", shared, methods=["GET"])]
