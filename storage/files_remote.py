"""The file store in any fsspec file system: S3, GCS, a shared drive."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from engine.domain.errors import NotFound, StorageError
from storage.files import checked_key, regular_files
from storage.files_local import LocalFiles


class RemoteFiles:
    """`root/<key>/<files>` and `root/<key>.json`, the manifest: name to size.

    Object stores cannot rename a folder, so the manifest, written last and deleted
    first, decides whether a key exists.
    """

    def __init__(self, filesystem: Any, root: str, fetched: Path) -> None:
        self.filesystem = filesystem
        self.root = root.rstrip("/")
        self.fetched = LocalFiles(fetched)

    def put_directory(self, key: str, path: Path, *, move: bool = False) -> None:
        if not self.exists(key):
            self._put(key, {str(f.relative_to(path)): f for f in regular_files(path)})
        if move:
            shutil.rmtree(path, ignore_errors=True)

    def put_file(self, key: str, path: Path) -> None:
        if not self.exists(key):
            self._put(key, {path.name: path})

    def exists(self, key: str) -> bool:
        return self._manifest(key) is not None

    def local_path(self, key: str) -> Path:
        manifest = self._existing(key)
        if not self.fetched.exists(key):
            with self._refusals(), self.fetched.scratch() as scratch:
                whole = scratch / "whole"
                for name in manifest:
                    (whole / name).parent.mkdir(parents=True, exist_ok=True)
                    self.filesystem.get_file(f"{self._place(key)}/{name}", str(whole / name))
                self.fetched.put_directory(key, whole, move=True)
        return self.fetched.local_path(key)

    def open(self, key: str, name: str) -> BinaryIO:
        if name not in self._existing(key):
            raise NotFound(f"{key} has no file {name}.")
        with self._refusals():
            return cast(BinaryIO, self.filesystem.open(f"{self._place(key)}/{name}", "rb"))

    def size(self, key: str) -> int:
        return sum((self._manifest(key) or {}).values())

    def delete(self, key: str) -> int:
        manifest = self._manifest(key)
        self.fetched.delete(key)
        if manifest is None:
            return 0
        with self._refusals():
            self.filesystem.rm_file(f"{self._place(key)}.json")
            self.filesystem.rm(self._place(key), recursive=True)
        return sum(manifest.values())

    def free_bytes(self) -> int | None:
        return None

    def _place(self, key: str) -> str:
        return f"{self.root}/{checked_key(key)}"

    def _manifest(self, key: str) -> dict[str, int] | None:
        place = f"{self._place(key)}.json"
        with self._refusals():
            try:
                found: dict[str, int] = json.loads(self.filesystem.cat_file(place))
            except FileNotFoundError:
                return None
        return found

    def _existing(self, key: str) -> dict[str, int]:
        manifest = self._manifest(key)
        if manifest is None:
            raise NotFound(f"The store has no files {key}.", mend="They may have been deleted.")
        return manifest

    def _put(self, key: str, files: dict[str, Path]) -> None:
        place = self._place(key)
        manifest = json.dumps({name: path.stat().st_size for name, path in files.items()})
        with self._refusals():
            try:
                self.filesystem.makedirs(self.root, exist_ok=True)
                for name, path in files.items():
                    self.filesystem.makedirs(f"{place}/{name}".rpartition("/")[0], exist_ok=True)
                    self.filesystem.put_file(str(path), f"{place}/{name}")
                self.filesystem.pipe_file(f"{place}.json", manifest.encode())
            except BaseException:
                if self.filesystem.exists(place) and not self.filesystem.exists(f"{place}.json"):
                    self.filesystem.rm(place, recursive=True)
                raise

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                "The artifact store refused; nothing was stored.",
                mend="See that it can be reached, has room and takes your credentials.",
                where=self.root,
                detail=str(error),
            ) from error
