"""Places for work in progress: removed after use, and by the next one after a crash."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from engine.settings import Settings


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


def sweep(settings: Settings) -> None:
    """Remove what processes that no longer live have left behind."""
    for path in (settings.home / "scratch").glob("*-*"):
        owner = path.name.partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(path, ignore_errors=True)
