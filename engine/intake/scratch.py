"""A folder of its own for each intake, gone afterwards even if the worker was killed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.execution.lock import FileLock, is_locked
from engine.settings import Settings

_LOCK = ".lock"


@contextmanager
def scratch_folder(settings: Settings) -> Iterator[Path]:
    """An empty folder under `home/scratch`, removed in the end. Sweeps those whose makers died."""
    place = settings.home / "scratch"
    place.mkdir(parents=True, exist_ok=True)
    _sweep(place)
    folder = Path(tempfile.mkdtemp(prefix="intake-", dir=place))
    lock = FileLock(folder.with_suffix(_LOCK))
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.path.unlink(missing_ok=True)


def _sweep(place: Path) -> None:
    for lock in place.glob(f"intake-*{_LOCK}"):
        if not is_locked(lock):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
