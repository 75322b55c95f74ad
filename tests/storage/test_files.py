"""The file store: whole or not at all, here and in an object store."""

from __future__ import annotations

import errno
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.domain.errors import InvalidInput, NotFound, StorageError
from engine.settings import Settings
from storage import FileStore
from storage.files import open_files
from storage.files_remote import RemoteFiles
from tests.storage.conftest import folder


@pytest.fixture(params=["file", "memory"])
def files(request: pytest.FixtureRequest, settings: Settings) -> FileStore:
    if request.param == "file":
        return open_files(settings)
    return open_files(replace(settings, artifacts_url=f"memory://{uuid.uuid4().hex}"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = folder(tmp_path / "model", config="{}", weights="12345")
    folder(directory / "onnx", graph="123")
    return directory


def test_what_is_stored_comes_back(files: FileStore, model: Path) -> None:
    files.put_directory("key", model)
    assert files.exists("key") and files.size("key") == 10
    place = files.local_path("key")
    assert {str(p.relative_to(place)): p.read_text() for p in place.rglob("*") if p.is_file()} == {
        "config": "{}", "weights": "12345", "onnx/graph": "123",
    }  # fmt: skip
    with files.open("key", "onnx/graph") as file:
        assert file.read() == b"123"
    assert (model / "weights").read_text() == "12345", "the caller keeps her own"


def test_a_key_is_stored_once(files: FileStore, model: Path, tmp_path: Path) -> None:
    files.put_directory("key", model)
    files.put_directory("key", folder(tmp_path / "other", weights="something else"))
    assert files.size("key") == 10


def test_moved_files_are_given_up(files: FileStore, model: Path) -> None:
    files.put_directory("key", model, move=True)
    assert files.size("key") == 10
    assert not model.exists()


def test_deleting_says_what_it_freed(files: FileStore, model: Path) -> None:
    files.put_directory("key", model)
    files.put_file("file", model / "weights")
    files.local_path("key")
    assert (files.delete("key"), files.delete("key")) == (10, 0)
    assert not files.exists("key") and files.size("key") == 0
    with pytest.raises(NotFound):
        files.local_path("key")
    assert files.local_path("file").joinpath("weights").read_text() == "12345"


def test_no_name_leaves_the_store(files: FileStore, model: Path) -> None:
    files.put_directory("key", model)
    for key in ("../key", "a/b", "", "..", "/etc", "k\0y", ".incoming"):
        with pytest.raises(InvalidInput):
            files.local_path(key)
    for name in ("../../secret", "/etc/passwd", "missing", "onnx"):
        with pytest.raises(NotFound):
            files.open("key", name)


def test_links_and_empty_folders_are_refused(files: FileStore, model: Path, tmp_path: Path) -> None:
    (model / "link").symlink_to("/etc/passwd")
    with pytest.raises(StorageError, match="link"):
        files.put_directory("key", model)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="nothing to store"):
        files.put_directory("key", tmp_path / "empty")
    assert not files.exists("key")


def test_a_full_disk_leaves_nothing_half_stored(
    settings: Settings, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = open_files(settings)
    files.put_directory("before", model)

    def half_written(source: Path, target: Path) -> None:
        target.write_text("half")
        if target.name == "weights":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", half_written)
    for store in (lambda: files.put_directory("key", model), lambda: files.put_file("key", model / "weights")):
        with pytest.raises(StorageError, match="full") as refusal:
            store()
        assert "Free some space" in refusal.value.mend
    root = settings.home / "store"
    assert {p.relative_to(root).parts[1] for p in root.rglob("*") if p.is_file()} == {"before"}
    assert not files.exists("key") and files.size("before") == 10
    monkeypatch.undo()
    files.put_directory("key", model)
    assert files.size("key") == 10


def test_an_object_store_that_fails_midway_has_stored_nothing(
    settings: Settings, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = open_files(replace(settings, artifacts_url=f"memory://{uuid.uuid4().hex}"))
    assert isinstance(files, RemoteFiles)
    put = files.filesystem.put_file

    def fail_on_weights(source: str, target: str, **options: Any) -> None:
        if target.endswith("weights"):
            raise OSError(errno.ENOSPC, "Quota exceeded")
        put(source, target, **options)

    monkeypatch.setattr(files.filesystem, "put_file", fail_on_weights)
    with pytest.raises(StorageError, match="nothing was stored"):
        files.put_directory("key", model)
    assert not files.exists("key") and files.filesystem.find(files.root) == []


def test_a_store_nobody_serves_is_named(settings: Settings) -> None:
    with pytest.raises(StorageError, match="gopher"):
        open_files(replace(settings, artifacts_url="gopher://somewhere"))
