"""The file store in a local folder."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from engine.domain.errors import NotFound, StorageError
from storage.files import checked_key, regular_files

_FULL = {errno.ENOSPC, errno.EDQUOT}


class LocalFiles:
    """`root/ab/abcdef…/`; unfinished and doomed directories lie in `root/.incoming/`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming = root / ".incoming"
        with self._refusals():
            self.incoming.mkdir(parents=True, exist_ok=True)

    def put_directory(self, key: str, path: Path, *, move: bool = False) -> None:
        if not self.exists(key):
            names = [f.relative_to(path) for f in regular_files(path)]
            with self._refusals(), self.scratch() as scratch:
                if move and path.stat().st_dev == scratch.stat().st_dev:
                    self._promote(path, key, names)
                else:
                    for name in names:
                        (scratch / "whole" / name).parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(path / name, scratch / "whole" / name)
                    self._promote(scratch / "whole", key, names)
        if move:
            shutil.rmtree(path, ignore_errors=True)

    def put_file(self, key: str, path: Path) -> None:
        if self.exists(key):
            return
        with self._refusals(), self.scratch() as scratch:
            whole = scratch / "whole"
            whole.mkdir()
            shutil.copyfile(path, whole / path.name)
            self._promote(whole, key, [Path(path.name)])

    def exists(self, key: str) -> bool:
        return self._place(key).is_dir()

    def local_path(self, key: str) -> Path:
        place = self._place(key)
        if not place.is_dir():
            raise NotFound(f"The store has no files {key}.", mend="They may have been deleted.")
        return place

    def open(self, key: str, name: str) -> BinaryIO:
        place = self.local_path(key)
        path = (place / name).resolve()
        if not path.is_relative_to(place.resolve()) or not path.is_file():
            raise NotFound(f"{key} has no file {name}.")
        with self._refusals():
            return path.open("rb")

    def size(self, key: str) -> int:
        return sum(f.stat().st_size for f in self._place(key).rglob("*") if f.is_file())

    def delete(self, key: str) -> int:
        place = self._place(key)
        with self._refusals(), self.scratch() as scratch:
            try:
                place.rename(scratch / "doomed")
            except FileNotFoundError:
                return 0
            return sum(f.stat().st_size for f in scratch.rglob("*") if f.is_file())

    def free_bytes(self) -> int | None:
        return shutil.disk_usage(self.root).free

    def _place(self, key: str) -> Path:
        return self.root / checked_key(key)[:2] / key

    def _promote(self, whole: Path, key: str, names: list[Path]) -> None:
        """To its place in one rename, after the bytes are on the disk."""
        for name in names:
            with (whole / name).open("rb") as file:
                os.fsync(file.fileno())
        place = self._place(key)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            whole.rename(place)
        except OSError as error:
            # the same content, stored by somebody else meanwhile
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not place.is_dir():
                raise

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A directory on the store's own disk, gone at the end with all that is left in it."""
        scratch = Path(tempfile.mkdtemp(dir=self.incoming))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise StorageError(
                    "The disk that holds the artifact store is full; nothing was stored.",
                    mend="Free some space, for example by deleting runs or artifacts, and try again.",
                    where=str(self.root),
                    detail=str(error),
                ) from error
            raise StorageError(
                f"The artifact store refused: {error.strerror or error}.",
                mend="See that the folder can be written to.",
                where=str(self.root),
                detail=str(error),
            ) from error
