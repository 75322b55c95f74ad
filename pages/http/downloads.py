"""`GET /download/<run id>`: a run's model as a zip that works without Speedrail, streamed from disk.
`GET /samples/<run id>`: its raw samples as Parquet.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from engine.domain.artifact import Artifact
from engine.domain.errors import NotFound, SpeedrailError
from engine.domain.experiment import Run
from engine.samples import write_samples
from pages.parts.shell import resources


async def download(request: Request) -> Response:
    """The lowered files with a short script that runs them; 404 for a run that kept none."""
    return await _sent(_packed, request, "application/zip")


async def samples(request: Request) -> Response:
    """Every raw sample; 404 for a run that has none."""
    return await _sent(_sampled, request, "application/vnd.apache.parquet")


async def _sent(made: Callable[[str], tuple[Path, Path, str]], request: Request, media_type: str) -> Response:
    """The file that `made` leaves in a folder of its own, which is removed when it is sent."""
    try:
        folder, package, name = await run_in_threadpool(made, request.path_params["run_id"])
    except NotFound as error:
        return PlainTextResponse(f"{error}\n", 404)
    except SpeedrailError as error:
        return PlainTextResponse(f"{error}\n", 500)
    done = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    return FileResponse(package, filename=name, media_type=media_type, background=done)


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
    own = _own_folder()
    try:
        zipped = package(transformed.lowered, artifact.card, own, artifact_name=artifact.name, recipe=run.recipe)
    except BaseException:
        shutil.rmtree(own, ignore_errors=True)
        raise
    return own, zipped, f"{_file_name(run, artifact)}.zip"


def _sampled(run_id: str) -> tuple[Path, Path, str]:
    storage = resources().storage
    run = storage.runs.get(run_id)
    rounds = storage.runs.rounds(run_id)
    if not rounds:
        raise NotFound("This run has no samples.", mend="Only a run that was measured has.", where=run_id)
    own = _own_folder()
    try:
        write_samples(run, rounds, own / "samples.parquet")
    except BaseException:
        shutil.rmtree(own, ignore_errors=True)
        raise
    return own, own / "samples.parquet", f"{_file_name(run, storage.artifacts.get(run.artifact_id))}.parquet"


def _own_folder() -> Path:
    folder = resources().settings.home / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder))


def _file_name(run: Run, artifact: Artifact) -> str:
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{artifact.name}-{run.recipe or 'baseline'}-{run.runtime}").strip("-")
    return words[:120]


def _kept_nothing(run_id: str) -> NotFound:
    return NotFound("This run has kept no model.", mend="Run its recipe again with models kept.", where=run_id)


ROUTES = [
    Route("/download/{run_id}", download, methods=["GET"]),
    Route("/samples/{run_id}", samples, methods=["GET"]),
]
