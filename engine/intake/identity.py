"""Content addresses: what makes two uploads the same artifact."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def artifact_id(directory: Path) -> str:
    """sha256 (hex) over the sorted (relative path, file sha256) pairs of all files below."""
    files = sorted(f for f in directory.rglob("*") if f.is_file())
    return digest((f.relative_to(directory).as_posix(), _sha256(f)) for f in files)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def digest(pairs: Iterable[tuple[str, str]]) -> str:
    """sha256 (hex) over named contents, in whatever order they come."""
    total = hashlib.sha256()
    for name, content in sorted(pairs):
        total.update(f"{name}\0{content}\n".encode())
    return total.hexdigest()
