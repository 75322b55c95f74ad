"""Resumable uploads: files that arrive in slices, in order, and are never held in memory.

An upload is a folder under `home/uploads`: `about.json` (name, size, hash of its token)
and `data`, which grows. How much has arrived is the length of `data`, so that nothing
needs to be remembered and an interrupted upload goes on where it stopped, after a
restart too. `finish` moves the file to `home/uploads/finished/<id>/<name>` for intake.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.domain.errors import InvalidInput, NotFound, StorageError
from engine.settings import Settings

STALE_SECONDS = 24 * 3600.0
_ID = re.compile(r"[0-9a-f]{32}")
_LONGEST_NAME = 120
_ABOUT = "about.json"
_DATA = "data"


@dataclass(frozen=True, slots=True)
class Upload:
    """`token` is told once, to whoever uploads; only its hash is kept."""

    id: str
    token: str


class WrongOffset(InvalidInput):
    """A slice does not continue what has arrived; `expected` (bytes) says where to go on."""

    def __init__(self, expected: int) -> None:
        super().__init__("A slice of the upload is missing.", mend=f"Continue at byte {expected}.")
        self.expected = expected


@dataclass(frozen=True, slots=True)
class _About:
    name: str
    size: int
    token_hash: str


class UploadStore:
    """Safe to use from several threads and processes. Every `id` may raise NotFound."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.home / "uploads"
        self._largest = settings.max_upload_bytes

    def create(self, name: str, size: int) -> Upload:
        """Begin an upload of `size` bytes. Raises InvalidInput (empty, too large), StorageError (no room)."""
        if size <= 0:
            raise InvalidInput("The file is empty.", mend="Choose a file that has content.", where=clean_name(name))
        if size > self._largest:
            raise InvalidInput(
                f"The file has {size:,} bytes; at most {self._largest:,} are taken.",
                mend="Upload only the files the model needs, or raise SPEEDRAIL_MAX_UPLOAD_BYTES.",
                where=clean_name(name),
            )
        self.sweep()
        upload = Upload(secrets.token_hex(16), secrets.token_urlsafe(32))
        with _disk(self._root):
            folder = self._root / upload.id
            folder.mkdir(parents=True)
            _refuse_without_room(folder, size)
            (folder / _DATA).touch()
            about = {"name": clean_name(name), "size": size, "token_hash": _hashed(upload.token)}
            (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        return upload

    def received(self, id: str) -> int:
        """Bytes that have arrived."""
        return self._data(id).stat().st_size

    def write(self, id: str, token: str, offset: int, chunk: bytes) -> int:
        """Take a slice that begins at byte `offset`; returns how many bytes have arrived.

        What has arrived before is passed over, so a slice may be sent again. Raises
        WrongOffset for a gap, InvalidInput beyond the announced size, StorageError when
        the disk is full (then the upload can go on later).
        """
        about = self._checked(id, token)
        if offset < 0 or offset + len(chunk) > about.size:
            raise InvalidInput(
                "The slice lies beyond the announced size.", mend="Start the upload again.", where=about.name
            )
        with _disk(self._root), self._data(id).open("r+b") as data:
            fcntl.flock(data, fcntl.LOCK_EX)
            there = data.seek(0, os.SEEK_END)
            if offset > there:
                raise WrongOffset(there)
            fresh = memoryview(chunk)[there - offset :]
            try:
                data.write(fresh)
                data.flush()
            except OSError:
                data.truncate(there)
                raise
            return there + len(fresh)

    def finish(self, id: str, token: str) -> Path:
        """The complete file, under its own (cleaned) name. The token is dead from now on.

        Raises InvalidInput when bytes are missing.
        """
        about = self._checked(id, token)
        arrived = self.received(id)
        if arrived != about.size:
            raise InvalidInput(
                f"{arrived:,} of {about.size:,} bytes have arrived.",
                mend=f"Continue at byte {arrived}.",
                where=about.name,
            )
        target = self._root / "finished" / id / about.name
        with _disk(self._root):
            target.parent.mkdir(parents=True)
            data = self._data(id)
            with data.open("rb") as opened:
                os.fsync(opened.fileno())
            data.rename(target)
            shutil.rmtree(self._root / id)
        return target

    def discard(self, id: str) -> None:
        """Forget an upload and give its space back; an unknown one is no error."""
        if _ID.fullmatch(id):
            shutil.rmtree(self._root / id, ignore_errors=True)
            shutil.rmtree(self._root / "finished" / id, ignore_errors=True)

    def consumed(self, path: Path) -> None:
        """Give back the space of a finished upload once intake is done with it; other paths are left alone."""
        finished = self._root / "finished"
        if path.is_relative_to(finished) and path != finished:
            shutil.rmtree(finished / path.relative_to(finished).parts[0], ignore_errors=True)

    def sweep(self, older_than: float = STALE_SECONDS) -> int:
        """Discard uploads to which nothing was added for `older_than` seconds; how many."""
        stale = [f for f in self._folders() if time.time() - _touched(f) > older_than]
        for folder in stale:
            shutil.rmtree(folder, ignore_errors=True)
        return len(stale)

    def _folders(self) -> Iterator[Path]:
        for place in (self._root, self._root / "finished"):
            if place.is_dir():
                yield from (f for f in place.iterdir() if _ID.fullmatch(f.name))

    def _data(self, id: str) -> Path:
        data = self._root / id / _DATA
        if not _ID.fullmatch(id) or not data.is_file():
            raise NotFound(
                "There is no such upload.", mend="Start it again; uploads left alone for a day are discarded."
            )
        return data

    def _checked(self, id: str, token: str) -> _About:
        about = _About(**json.loads((self._data(id).parent / _ABOUT).read_text(encoding="utf-8")))
        if not hmac.compare_digest(about.token_hash, _hashed(token)):
            raise InvalidInput("This is not the token of that upload.", mend="Start the upload again.")
        return about


def clean_name(name: str) -> str:
    """A file name without folders, control characters or leading dots; its ending stays."""
    plain = unicodedata.normalize("NFC", name).replace("\\", "/").rsplit("/", 1)[-1]
    plain = "".join(c if c.isprintable() else "_" for c in plain).strip().lstrip(".")
    stem, dot, ending = plain.rpartition(".")
    while len(plain.encode()) > _LONGEST_NAME and plain:
        stem = stem[:-1]
        plain = f"{stem}{dot}{ending}" if stem else plain[:-1]
    return plain or "upload"


def _touched(folder: Path) -> float:
    """When something last arrived, seconds since the epoch; now for a folder that vanishes meanwhile."""
    try:
        return max(f.stat().st_mtime for f in (folder, *folder.iterdir()))
    except FileNotFoundError:
        return time.time()


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _refuse_without_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        folder.rmdir()
        raise _full(f"{size:,} bytes are needed and {free:,} are free.")


def _full(detail: str) -> StorageError:
    return StorageError(
        "The server's disk is full.",
        mend="Free some space (delete runs or models you no longer need), then continue the upload.",
        detail=detail,
    )


@contextmanager
def _disk(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(str(error)) from error
        raise StorageError("The upload cannot be stored.", mend=f"Check {root}.", detail=str(error)) from error
