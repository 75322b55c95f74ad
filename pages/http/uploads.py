"""Resumable uploads: the browser cuts a file into slices and puts them here one by one.

    POST   /api/uploads                  ticket + {name, size}     → {id, token, ticket}
    GET    /api/uploads/{id}             token                     → {received}
    PUT    /api/uploads/{id}?offset=N    token, a slice            → {received}
    POST   /api/uploads/{id}/finish      token + {purpose}         → {intake} or {dataset}
    DELETE /api/uploads/{id}             token

Never more than one slice of an upload is in memory. Errors are Problems in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any
from uuid import uuid4

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from engine.domain.codec import as_data
from engine.domain.errors import InvalidInput, NotFound, SpeedrailError
from engine.intake.datasets import take_in_dataset
from engine.uploads import UploadStore
from engine.worker import ensure_worker
from pages.http.tickets import TICKETS
from pages.parts.shell import Resources, resources
from storage.views import IntakeJob

SLICE_BYTES = 8 * 2**20
_LARGEST_BODY = 2 * SLICE_BYTES
TICKET_HEADER = "x-upload-ticket"
TOKEN_HEADER = "x-upload-token"

Endpoint = Callable[[Request], Awaitable[Response]]


def _answers_problems(endpoint: Endpoint) -> Endpoint:
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except NotFound as error:
            return JSONResponse(as_data(error.as_problem()), 404)
        except InvalidInput as error:
            return JSONResponse(as_data(error.as_problem()), 400)
        except SpeedrailError as error:
            return JSONResponse(as_data(error.as_problem()), 507)

    return answer


@_answers_problems
async def create(request: Request) -> Response:
    if not TICKETS.redeem(request.headers.get(TICKET_HEADER, "")):
        raise InvalidInput("This upload was not started from a page of the dashboard.", mend="Reload the page.")
    body = await _json(request)
    name, size = body.get("name"), body.get("size")
    if not isinstance(name, str) or not isinstance(size, int) or isinstance(size, bool):
        raise InvalidInput("An upload needs a name and a size in bytes.")
    upload = await run_in_threadpool(_store().create, name, size)
    # the page can start its next upload without running again
    return JSONResponse({"id": upload.id, "token": upload.token, "ticket": TICKETS.issue()}, 201)


@_answers_problems
async def received(request: Request) -> Response:
    id, token = _named(request)
    # an empty slice proves the token and moves nothing
    return JSONResponse({"received": await run_in_threadpool(_store().write, id, token, 0, b"")})


@_answers_problems
async def write(request: Request) -> Response:
    id, token = _named(request)
    offset = request.query_params.get("offset", "")
    if not offset.isdecimal():
        raise InvalidInput("A slice needs its offset in bytes.", where="offset")
    chunk = await _slice(request)
    return JSONResponse({"received": await run_in_threadpool(_store().write, id, token, int(offset), chunk)})


@_answers_problems
async def discard(request: Request) -> Response:
    id, token = _named(request)
    await run_in_threadpool(_store().write, id, token, 0, b"")
    await run_in_threadpool(_store().discard, id)
    return Response(status_code=204)


@_answers_problems
async def finish(request: Request) -> Response:
    id, token = _named(request)
    purpose = (await _json(request)).get("purpose")
    if purpose not in ("model", "dataset", "calibration"):
        raise InvalidInput("An upload is a model, a dataset or a calibration dataset.", where="purpose")
    return JSONResponse(await run_in_threadpool(_finish, id, token, purpose == "model"))


def _finish(id: str, token: str, is_model: bool) -> dict[str, str]:
    found = resources()
    path = _store().finish(id, token)
    if is_model:
        return {"intake": start_intake(found, str(path), path.name)}
    return {"dataset": take_in_dataset(path, found.storage, found.settings).id}


def start_intake(found: Resources, path: str, source: str, name: str = "") -> str:
    """Queue the intake of a file or folder on this server; the id of its job."""
    job = IntakeJob(
        id=uuid4().hex, name=name or PurePosixPath(source).stem, path=path, source=source, created_at=datetime.now(UTC)
    )
    found.storage.intakes.create(job)
    found.queue.enqueue_intake(job.id)
    ensure_worker(found.settings)
    return job.id


def _store() -> UploadStore:
    return UploadStore(resources().settings)


def _named(request: Request) -> tuple[str, str]:
    return str(request.path_params["id"]), request.headers.get(TOKEN_HEADER, "")


async def _json(request: Request) -> dict[str, Any]:
    raw = await _slice(request)
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise InvalidInput("This request needs a JSON object.")
    return body


async def _slice(request: Request) -> bytes:
    """The body, refused as soon as it is longer than any slice our page sends."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_BODY:
            raise InvalidInput(f"A slice is at most {_LARGEST_BODY} bytes long.")
    return bytes(body)


ROUTES = [
    Route("/api/uploads", create, methods=["POST"]),
    Route("/api/uploads/{id}", received, methods=["GET"]),
    Route("/api/uploads/{id}", write, methods=["PUT"]),
    Route("/api/uploads/{id}", discard, methods=["DELETE"]),
    Route("/api/uploads/{id}/finish", finish, methods=["POST"]),
]
