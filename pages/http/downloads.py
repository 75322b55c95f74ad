"""`GET /download/<run id>`: a run's model as a zip that works without Speedrail, streamed from disk."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from engine.domain.errors import NotFound, SpeedrailError
from pages.parts.shell import resources


async def download(request: Request) -> Response:
    """The lowered files with a short script that runs them; 404 for a run that kept none."""
    try:
        folder, package, name = await run_in_threadpool(_packed, request.path_params["run_id"])
    except NotFound as error:
        return PlainTextResponse(f"{error}\n", 404)
    except SpeedrailError as error:
        return PlainTextResponse(f"{error}\n", 500)
    done = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    return FileResponse(package, filename=name, media_type="application/zip", background=done)


def _packed(run_id: str) -> tuple[Path, Path, str]:
    found = resources()
    run = found.storage.runs.get(run_id)
    artifact = found.storage.artifacts.get(run.artifact_id)
    if not run.lowered_id:
        raise _kept_nothing(run_id)
    # brings the engine's sandbox and transport: only whoever downloads waits for them
    from engine.download import package
    from engine.execution.transforming import find_transformed

    transformed = find_transformed(run.lowered_id, found.storage)
    if transformed is None:
        raise _kept_nothing(run_id)
    folder = found.settings.home / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    own = Path(tempfile.mkdtemp(dir=folder))
    try:
        zipped = package(transformed.lowered, artifact.card, own, artifact_name=artifact.name, recipe=run.recipe)
    except BaseException:
        shutil.rmtree(own, ignore_errors=True)
        raise
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{artifact.name}-{run.recipe or 'baseline'}-{run.runtime}").strip("-")
    return own, zipped, f"{words[:120]}.zip"


def _kept_nothing(run_id: str) -> NotFound:
    return NotFound("This run has kept no model.", mend="Run its recipe again with models kept.", where=run_id)


ROUTES = [Route("/download/{run_id}", download, methods=["GET"])]
