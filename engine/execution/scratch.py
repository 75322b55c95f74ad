"""Places for work in progress: removed after use, and by the next one after a crash."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from engine.settings import Settings

CHECKPOINT_SECONDS = 7 * 86400.0
"""How long checkpoints that nobody has used are kept."""


@contextmanager
def scratch(settings: Settings) -> Iterator[Path]:
    """An empty directory of this process's own, removed with whatever is in it."""
    root = settings.home / "scratch"
    root.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=root))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def checkpoints(settings: Settings, key: str) -> Path:
    """A directory for what trained stages can go on from, under the key of what they depend on.

    It outlives a transform that was killed, cancelled or failed; one that reached its end
    leaves its students there, so that the same stages on another runtime need not be
    trained again. `sweep` removes it a week after its last use.
    """
    path = settings.home / "checkpoints" / key
    path.mkdir(parents=True, exist_ok=True)
    os.utime(path)
    return path


def sweep(settings: Settings) -> None:
    """Remove what processes that no longer live have left behind."""
    for path in (settings.home / "scratch").glob("*-*"):
        owner = path.name.partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(path, ignore_errors=True)
    for path in (settings.home / "checkpoints").glob("*"):
        if time.time() - path.stat().st_mtime > CHECKPOINT_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
