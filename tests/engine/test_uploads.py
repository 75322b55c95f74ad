from __future__ import annotations

import errno
import os
import threading
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as configured
from hypothesis import strategies as st

from engine.domain.errors import InvalidInput, NotFound, StorageError
from engine.settings import Settings
from engine.uploads import UploadStore, WrongOffset, clean_name

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def store(settings: Settings) -> UploadStore:
    return UploadStore(settings)


def files(settings: Settings) -> list[Path]:
    return [f for f in (settings.home / "uploads").rglob("*") if f.is_file()]


def test_slices_become_the_file(store: UploadStore) -> None:
    upload = store.create("model.zip", len(CONTENT))
    for start in range(0, len(CONTENT), 1000):
        assert store.received(upload.id) == start
        assert store.write(upload.id, upload.token, start, CONTENT[start : start + 1000]) == min(
            start + 1000, len(CONTENT)
        )
    path = store.finish(upload.id, upload.token)
    assert path.name == "model.zip"
    assert path.read_bytes() == CONTENT


def test_it_goes_on_after_a_restart(store: UploadStore, settings: Settings) -> None:
    upload = store.create("model.zip", len(CONTENT))
    store.write(upload.id, upload.token, 0, CONTENT[:5000])
    again = UploadStore(settings)
    assert again.received(upload.id) == 5000
    again.write(upload.id, upload.token, 5000, CONTENT[5000:])
    assert again.finish(upload.id, upload.token).read_bytes() == CONTENT


def test_a_slice_sent_twice_counts_once(store: UploadStore) -> None:
    upload = store.create("model.zip", len(CONTENT))
    store.write(upload.id, upload.token, 0, CONTENT[:5000])
    assert store.write(upload.id, upload.token, 0, CONTENT[:5000]) == 5000
    assert store.write(upload.id, upload.token, 4000, CONTENT[4000:7000]) == 7000
    assert store.write(upload.id, upload.token, 100, CONTENT[100:200]) == 7000
    store.write(upload.id, upload.token, 7000, CONTENT[7000:])
    assert store.finish(upload.id, upload.token).read_bytes() == CONTENT


def test_a_gap_is_refused_with_the_place_to_go_on(store: UploadStore) -> None:
    upload = store.create("model.zip", len(CONTENT))
    store.write(upload.id, upload.token, 0, CONTENT[:10])
    with pytest.raises(WrongOffset, match="Continue at byte 10") as caught:
        store.write(upload.id, upload.token, 11, CONTENT[11:20])
    assert caught.value.expected == 10
    assert store.received(upload.id) == 10


@configured(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.tuples(st.integers(0, len(CONTENT)), st.integers(0, len(CONTENT))), max_size=20))
def test_any_order_of_slices_gives_the_file_or_a_place_to_go_on(
    cuts: list[tuple[int, int]], store: UploadStore
) -> None:
    upload = store.create("model.zip", len(CONTENT))
    for start, end in cuts:
        before = store.received(upload.id)
        try:
            store.write(upload.id, upload.token, start, CONTENT[start:end])
        except WrongOffset as error:
            assert error.expected == before < start
        assert store.received(upload.id) >= before
    there = store.received(upload.id)
    store.write(upload.id, upload.token, there, CONTENT[there:])
    path = store.finish(upload.id, upload.token)
    assert path.read_bytes() == CONTENT
    store.consumed(path)


def test_writers_at_once_do_not_mix(store: UploadStore) -> None:
    upload = store.create("model.zip", len(CONTENT))

    def send() -> None:
        while (there := store.received(upload.id)) < len(CONTENT):
            store.write(upload.id, upload.token, there, CONTENT[there : there + 97])

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.finish(upload.id, upload.token).read_bytes() == CONTENT


def test_unfinished_is_not_finished(store: UploadStore) -> None:
    upload = store.create("model.zip", 10)
    store.write(upload.id, upload.token, 0, b"12345")
    with pytest.raises(InvalidInput, match="5 of 10 bytes have arrived"):
        store.finish(upload.id, upload.token)
    with pytest.raises(InvalidInput, match="beyond the announced size"):
        store.write(upload.id, upload.token, 5, b"678901")
    assert store.received(upload.id) == 5


def test_the_token_is_needed_kept_hashed_and_dies_at_the_end(store: UploadStore, settings: Settings) -> None:
    upload = store.create("model.zip", 4)
    other = store.create("model.zip", 4)
    for wrong in ("", "x", other.token):
        with pytest.raises(InvalidInput, match="not the token"):
            store.write(upload.id, wrong, 0, b"1234")
        with pytest.raises(InvalidInput, match="not the token"):
            store.finish(upload.id, wrong)
    assert store.received(upload.id) == 0
    assert all(upload.token.encode() not in f.read_bytes() for f in files(settings))
    store.write(upload.id, upload.token, 0, b"1234")
    store.finish(upload.id, upload.token)
    for again in (lambda: store.finish(upload.id, upload.token), lambda: store.write(upload.id, upload.token, 0, b"1")):
        with pytest.raises(NotFound):
            again()


@pytest.mark.parametrize("id", ["", "..", "../../etc", "f" * 31, "finished", "0" * 32])
def test_an_unknown_id_is_not_found(id: str, store: UploadStore, settings: Settings) -> None:
    (settings.home / "uploads" / "finished").mkdir(parents=True)
    with pytest.raises(NotFound):
        store.received(id)
    store.discard(id)
    assert (settings.home / "uploads" / "finished").exists()


def test_sizes_that_cannot_be(settings: Settings) -> None:
    store = UploadStore(replace(settings, max_upload_bytes=1000))
    with pytest.raises(InvalidInput, match="is empty"):
        store.create("a", 0)
    with pytest.raises(InvalidInput, match="at most 1,000 are taken") as caught:
        store.create("a", 1001)
    assert "SPEEDRAIL_MAX_UPLOAD_BYTES" in caught.value.mend
    assert files(settings) == []


def test_discard_gives_the_space_back(store: UploadStore, settings: Settings) -> None:
    upload = store.create("model.zip", 4)
    store.write(upload.id, upload.token, 0, b"12")
    store.discard(upload.id)
    store.discard(upload.id)
    with pytest.raises(NotFound):
        store.received(upload.id)
    assert files(settings) == []


def test_consumed_gives_back_only_finished_uploads(store: UploadStore, settings: Settings, tmp_path: Path) -> None:
    upload = store.create("model.zip", 4)
    store.write(upload.id, upload.token, 0, b"1234")
    path = store.finish(upload.id, upload.token)
    (tmp_path / "mine").write_text("keep")
    store.consumed(tmp_path / "mine")
    store.consumed(settings.home / "uploads" / "finished")
    assert path.exists()
    store.consumed(path)
    assert files(settings) == []
    assert (tmp_path / "mine").read_text() == "keep"


def test_stale_uploads_are_swept(store: UploadStore, settings: Settings) -> None:
    stale, fresh = store.create("a", 4), store.create("b", 4)
    old = time.time() - 25 * 3600
    folder = settings.home / "uploads" / stale.id
    for path in (*folder.iterdir(), folder):
        os.utime(path, (old, old))
    assert store.sweep() == 1
    assert store.received(fresh.id) == 0
    with pytest.raises(NotFound):
        store.received(stale.id)


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("model.zip", "model.zip"), ("../../etc/passwd", "passwd"), ("C:\\models\\a.gguf", "a.gguf"), ("", "upload"),
        ("...", "upload"), (".hidden.zip", "hidden.zip"), ("a\nb\x00.zip", "a_b_.zip"), ("模型.zip", "模型.zip"),
        ("x" * 300 + ".tar.gz", "x" * 117 + ".gz"), ("y" * 300, "y" * 120), ("/", "upload"), ("‮gpj.zip", "_gpj.zip"),
    ],
)  # fmt: skip
def test_names_are_cleaned(given_name: str, kept: str, store: UploadStore) -> None:
    assert clean_name(given_name) == kept
    upload = store.create(given_name, 1)
    store.write(upload.id, upload.token, 0, b"1")
    assert store.finish(upload.id, upload.token).name == kept


@given(name=st.text())
def test_a_clean_name_stays_in_its_folder(name: str) -> None:
    cleaned = clean_name(name)
    assert cleaned and "/" not in cleaned and cleaned not in (".", "..")
    assert len(cleaned.encode(errors="replace")) <= 120


def test_a_full_disk_keeps_what_has_arrived(store: UploadStore, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = store.create("model.zip", 8)
    store.write(upload.id, upload.token, 0, b"1234")
    _fill_the_disk(monkeypatch)
    with pytest.raises(StorageError, match="disk is full") as caught:
        store.write(upload.id, upload.token, 4, b"5678")
    assert "continue the upload" in caught.value.mend
    monkeypatch.undo()
    assert store.received(upload.id) == 4
    store.write(upload.id, upload.token, 4, b"5678")
    assert store.finish(upload.id, upload.token).read_bytes() == b"12345678"


def test_no_room_is_told_before_the_first_slice(
    store: UploadStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.home.mkdir()
    import shutil

    usage = shutil.disk_usage(settings.home)
    monkeypatch.setattr("engine.uploads.shutil.disk_usage", lambda _: usage._replace(free=3))
    with pytest.raises(StorageError, match="disk is full") as caught:
        store.create("model.zip", 4)
    assert "4 bytes are needed and 3 are free" in caught.value.detail
    assert files(settings) == []


def test_memory_stays_flat(store: UploadStore) -> None:
    size, piece = 64 << 20, bytes(1 << 20)
    upload = store.create("big.gguf", size)
    tracemalloc.start()
    for start in range(0, size, len(piece)):
        store.write(upload.id, upload.token, start, piece)
    path = store.finish(upload.id, upload.token)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size == size
    assert peak < 4 << 20


def _fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a slice still fits."""
    real: Callable[..., Any] = Path.open

    def opened(self: Path, *args: Any, **kwargs: Any) -> Any:
        file = real(self, *args, **kwargs)
        return _FullFile(file) if self.name == "data" else file

    monkeypatch.setattr(Path, "open", opened)


class _FullFile:
    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> _FullFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: memoryview) -> int:
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        raise OSError(errno.ENOSPC, "No space left on device")
