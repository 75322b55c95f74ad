"""Taking a model in, seen from the worker: child, validation, promotion; all or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from engine.domain.artifact import Artifact, ModelCard
from engine.domain.codec import from_data
from engine.domain.errors import Cancelled, IntakeError, NotFound, SpeedrailError, StorageError
from engine.domain.experiment import Progress
from engine.intake.hostile import disk_problem
from engine.intake.identity import artifact_id
from engine.intake.reader import read_in_child
from engine.intake.scratch import scratch_folder
from engine.intake.validate import validate
from engine.requests import InspectRequest, InspectResult
from engine.settings import Settings
from engine.uploads import UploadStore

if TYPE_CHECKING:
    from storage import Storage

Report = Callable[[Progress], None]


def take_in(
    source: Path, name: str, source_label: str, storage: Storage, settings: Settings, report: Report
) -> Artifact:
    """Make an artifact of the upload or folder `source`; equal bytes give the artifact that is there already.

    The bytes are read by a sandboxed child only. An upload is given up in the end,
    whether it was taken or refused; other sources stay as they are. Raises IntakeError
    (StorageError when the store refuses); then nothing is kept.
    """
    try:
        artifact = _taken(source, name, source_label, storage, settings, report)
    except OSError as error:
        UploadStore(settings).consumed(source)
        raise disk_problem(error) from error
    except SpeedrailError as error:
        if not isinstance(error, Cancelled):
            UploadStore(settings).consumed(source)
        raise
    UploadStore(settings).consumed(source)
    report(Progress("done", 1.0))
    return artifact


def _taken(source: Path, name: str, label: str, storage: Storage, settings: Settings, report: Report) -> Artifact:
    with scratch_folder(settings) as scratch:
        _refuse_without_room(source, scratch)
        into = scratch / "model"
        into.mkdir()
        card = _inspected(source, into, settings, report)
        report(Progress("storing", 0.8))
        validate(into, card)
        size = sum(f.stat().st_size for f in into.rglob("*") if f.is_file())
        artifact = Artifact(artifact_id(into), name, size, datetime.now(UTC), card, label)
        return _promoted(artifact, into, storage)


def _inspected(source: Path, into: Path, settings: Settings, report: Report) -> ModelCard:
    roots = [root for root in settings.model_roots if source.is_relative_to(root)]
    request = InspectRequest(str(source), str(into), tuple(map(str, roots)), settings.max_upload_bytes)
    data = read_in_child("inspect", request, [source, *roots], into.parent, settings, report)
    return from_data(InspectResult, data).card


def _promoted(artifact: Artifact, files: Path, storage: Storage) -> Artifact:
    """Into the store and the database, or into neither."""
    try:
        return storage.artifacts.get(artifact.id)
    except NotFound:
        pass
    storage.files.put_directory(artifact.id, files, move=True)
    try:
        return storage.artifacts.add(artifact)
    except BaseException:
        _drop_unrecorded(artifact.id, storage)
        raise


def _drop_unrecorded(id: str, storage: Storage) -> None:
    """Files of an artifact that nobody, another worker neither, has recorded."""
    with suppress(StorageError):
        try:
            storage.artifacts.get(id)
        except NotFound:
            storage.files.delete(id)


def _refuse_without_room(source: Path, scratch: Path) -> None:
    """Archives of models hardly shrink them, so that what comes must at least fit once."""
    if not source.exists():
        raise IntakeError("There is no such file or folder.", mend="Check the path.", where=str(source))
    size = sum(f.stat().st_size for f in source.rglob("*") if f.is_file()) if source.is_dir() else source.stat().st_size
    free = shutil.disk_usage(scratch).free
    if size > free:
        raise IntakeError(
            f"The disk is full: the model has {size:,} bytes and {free:,} are free.",
            mend="Free some space (delete runs or models you no longer need), or set SPEEDRAIL_HOME to a larger disk.",
        )
