"""The file store: directories under content-addressed keys.

A key names bytes that never change, so storing a key that exists does nothing. A
directory is stored whole or not at all: locally it is copied beside its place and
renamed; in an object store a manifest is written last and only what has one exists.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO, Protocol

from fsspec.core import url_to_fs

from engine.domain.errors import InvalidInput, StorageError
from engine.settings import Settings

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{2,199}")


class FileStore(Protocol):
    """Safe to use from several threads and processes.

    Every method raises InvalidInput for a malformed key and StorageError when the disk
    or the object store refuses; then nothing half-stored is left.
    """

    def put_directory(self, key: str, path: Path, *, move: bool = False) -> None:
        """Store the regular files under `path`. `move`: the caller gives them up.

        Raises StorageError when there are none, or links and devices among them.
        """
        ...

    def put_file(self, key: str, path: Path) -> None:
        """Store one file, as a directory that holds only it, under its own name."""
        ...

    def exists(self, key: str) -> bool: ...

    def local_path(self, key: str) -> Path:
        """The directory on this machine, fetched if need be; not to be written to.

        Raises NotFound.
        """
        ...

    def open(self, key: str, name: str) -> BinaryIO:
        """One file, by its relative path. Raises NotFound."""
        ...

    def size(self, key: str) -> int:
        """Bytes of all its files; 0 when there is no such key."""
        ...

    def delete(self, key: str) -> int:
        """Bytes freed; 0 when there was no such key."""
        ...

    def free_bytes(self) -> int | None:
        """What is left on the local disk; None for an object store."""
        ...


def open_files(settings: Settings) -> FileStore:
    """The store at `settings.artifacts_url`. Raises StorageError for a URL nobody serves."""
    from storage.files_local import LocalFiles
    from storage.files_remote import RemoteFiles

    try:
        filesystem, root = url_to_fs(settings.artifacts_url)
    except (ImportError, ValueError) as error:
        raise StorageError(
            f"Nothing can open the artifact store {settings.artifacts_url}.",
            mend="Set SPEEDRAIL_ARTIFACTS_URL to file:///… or to an object store whose fsspec package is installed.",
            detail=str(error),
        ) from error
    protocol = filesystem.protocol if isinstance(filesystem.protocol, tuple) else (filesystem.protocol,)
    if "file" in protocol:
        return LocalFiles(Path(root))
    return RemoteFiles(filesystem, root, settings.home / "fetched")


def checked_key(key: str) -> str:
    """The key itself. Raises InvalidInput when it could leave the store."""
    if not _KEY.fullmatch(key):
        raise InvalidInput(f"{key!r} is not a key of the file store.", mend="Use letters, digits, '.', '_' and '-'.")
    return key


def regular_files(directory: Path) -> list[Path]:
    """All files below, sorted. Raises StorageError for none, links and devices."""
    found: list[Path] = []
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise StorageError(
                f"{path.relative_to(directory)} is a link or a device.",
                mend="Store plain files only.",
                where=str(directory),
            )
        if path.is_file():
            found.append(path)
    if not found:
        raise StorageError("There is nothing to store.", where=str(directory))
    return found
