from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.domain.artifact import TaskId
from engine.domain.codec import as_data
from engine.domain.errors import Cancelled, ChildError, IntakeError, StorageError
from engine.domain.experiment import Progress
from engine.intake import datasets, reader, service
from engine.intake.datasets import take_in_dataset
from engine.intake.service import take_in
from engine.requests import InspectResult
from engine.settings import Settings
from engine.uploads import UploadStore
from storage import Storage
from tests.engine.intake.conftest import unheard
from tests.engine.intake.corpus import BAD
from tests.engine.intake.packing import copied, tarred, zipped
from tests.engine.intake.test_bad_inputs import assert_nothing_kept, contents


def uploaded(file: Path, settings: Settings) -> Path:
    """As a browser would bring it."""
    store = UploadStore(settings)
    upload = store.create(file.name, file.stat().st_size)
    store.write(upload.id, upload.token, 0, file.read_bytes())
    return store.finish(upload.id, upload.token)


def test_an_upload_becomes_an_artifact_through_a_child(
    bert: Path, tmp_path: Path, settings: Settings, storage: Storage
) -> None:
    heard: list[Progress] = []
    upload = uploaded(zipped(bert, tmp_path / "bert.zip"), settings)
    artifact = take_in(upload, "My BERT", "bert.zip", storage, settings, heard.append)
    assert storage.artifacts.get(artifact.id) == artifact
    assert (artifact.name, artifact.source, artifact.card.task) == ("My BERT", "bert.zip", TaskId.TEXT_ENCODER)
    assert contents(storage.files.local_path(artifact.id)) == contents(bert)
    assert artifact.size_bytes == sum(f.stat().st_size for f in bert.iterdir())
    assert [p.stage for p in heard] == ["unpacking", "inspecting", "storing", "done"]
    assert [p.fraction for p in heard] == sorted(p.fraction for p in heard)
    assert contents(settings.home / "uploads") == []
    assert contents(settings.home / "scratch") == []


def test_the_same_bytes_are_one_artifact(mlp: Path, tmp_path: Path, settings: Settings, storage: Storage) -> None:
    first = take_in(mlp, "first", "folder", storage, settings, unheard)
    again = take_in(tarred(mlp, tmp_path / "m.tar.xz"), "second", "m.tar.xz", storage, settings, unheard)
    lone = take_in(mlp / "model.onnx", "third", "model.onnx", storage, settings, unheard)
    assert first == again == lone
    assert storage.artifacts.list().total == 1
    assert (mlp / "model.onnx").exists()


@pytest.mark.parametrize("name", ["truncated safetensors", "zip with ../", "tar of 1000:1", "ONNX data outside"])
def test_the_child_refuses_as_clearly(
    name: str, bert: Path, mlp: Path, tmp_path: Path, settings: Settings, storage: Storage
) -> None:
    bad = next(b for b in BAD if b.name == name)
    source = bad.make(tmp_path, bert, mlp)
    upload = uploaded(source, settings) if source.is_file() else source
    with pytest.raises(IntakeError) as caught:
        take_in(upload, "bad", "bad", storage, settings, unheard)
    assert bad.says in caught.value.what
    assert bad.mends in caught.value.mend
    assert_nothing_kept(settings, storage)
    assert contents(settings.home / "uploads") == []


def test_a_crashed_child_is_the_files_fault(
    mlp: Path, settings: Settings, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> Any:
        raise ChildError("The child ended unexpectedly (SIGSEGV).", detail="the log's tail")

    monkeypatch.setattr(reader, "start_child", crash)
    with pytest.raises(IntakeError, match="broke off: The child ended unexpectedly") as caught:
        take_in(mlp, "m", "m", storage, settings, unheard)
    assert caught.value.detail == "the log's tail"
    assert_nothing_kept(settings, storage)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("at", ["unpacking", "promoting", "recording"])
def test_a_full_disk_leaves_nothing_and_loses_nothing(
    at: str, bert: Path, mlp: Path, settings: Settings, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = take_in(mlp, "earlier", "folder", storage, settings, unheard)
    stored = contents(settings.home / "store")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def refused(*_: object, **__: object) -> None:
        raise StorageError("The disk is full.", mend="Free some space.")

    match at:
        case "unpacking":
            monkeypatch.setattr("engine.intake.unpack._copy", full)
        case "promoting":
            monkeypatch.setattr(storage.files, "put_directory", full)
        case "recording":
            monkeypatch.setattr(storage.artifacts, "add", refused)
    upload = zipped(bert, settings.home / "b.zip") if at != "unpacking" else bert
    with pytest.raises((IntakeError, StorageError), match="disk is full") as caught:
        take_in(upload, "new", "new", storage, settings, unheard)
    assert "Free some space" in caught.value.mend
    assert contents(settings.home / "scratch") == []
    assert contents(settings.home / "store") == stored
    assert [s.artifact for s in storage.artifacts.list().items] == [earlier]


def test_no_room_is_seen_before_anything_is_written(
    mlp: Path, settings: Settings, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(settings.home)
    monkeypatch.setattr("engine.intake.service.shutil.disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(IntakeError, match=r"disk is full: the model has [\d,]+ bytes and 10 are free"):
        take_in(mlp, "m", "m", storage, settings, unheard)
    assert_nothing_kept(settings, storage)


@pytest.mark.parametrize("change", ["link", "code", "foreign card", "renamed", "half"])
def test_what_a_captured_child_left_is_not_believed(
    change: str, bert: Path, settings: Settings, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(kind: str, request: Any, *_: object) -> Any:
        from engine.intake.inspection import inspect

        into = Path(request.into)
        shutil.copytree(bert, into, dirs_exist_ok=True)
        card = inspect(into)
        match change:
            case "link":
                (into / "vocab.txt").symlink_to("/etc/passwd")
            case "code":
                (into / "modeling.py").write_text("import os")
            case "foreign card":
                card = replace(card, parameters=10**15)
            case "renamed":
                (into / "model.safetensors").write_bytes(b"\x80\x04K\x01.")
            case "half":
                (into / "config.json").unlink()
        return as_data(InspectResult(card))

    monkeypatch.setattr(service, "read_in_child", read)
    with pytest.raises(IntakeError, match="not consistent"):
        take_in(bert, "m", "m", storage, settings, unheard)
    assert_nothing_kept(settings, storage)


def test_a_server_folder_may_link_within_its_root(mlp: Path, settings: Settings, storage: Storage) -> None:
    root = settings.model_roots[0]
    copied(mlp, root / "blobs")
    snapshot = root / "snapshot"
    snapshot.mkdir()
    for blob in (root / "blobs").iterdir():
        (snapshot / blob.name).symlink_to(blob)
    artifact = take_in(snapshot, "linked", str(snapshot), storage, settings, unheard)
    assert contents(storage.files.local_path(artifact.id)) == contents(mlp)


def test_a_cancelled_intake_keeps_its_upload(
    mlp: Path, settings: Settings, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = uploaded(mlp / "model.onnx", settings)

    def cancel(_: Progress) -> None:
        raise Cancelled("Cancelled.")

    with pytest.raises(Cancelled):
        take_in(upload, "m", "m", storage, settings, cancel)
    assert upload.exists()
    assert_nothing_kept(settings, storage)


def test_scratch_of_a_killed_worker_is_swept(mlp: Path, settings: Settings, storage: Storage) -> None:
    from engine.intake.scratch import scratch_folder

    program = (
        "import os, sys; from pathlib import Path; from engine.settings import Settings;"
        "from engine.intake.scratch import scratch_folder;"
        "manager = scratch_folder(Settings.from_environment({'SPEEDRAIL_HOME': sys.argv[1]}));"
        "folder = manager.__enter__();"
        "(folder / 'left').write_text('x'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", program, str(settings.home)], cwd=Path(__file__).parents[3], check=False)
    assert [Path(f).name for f in contents(settings.home / "scratch") if f.endswith("left")] == ["left"]
    with scratch_folder(settings) as mine, scratch_folder(settings):
        assert mine.exists()
        assert not [f for f in contents(settings.home / "scratch") if f.endswith("left")]
    assert contents(settings.home / "scratch") == []


def test_a_dataset_is_taken_in_once(tmp_path: Path, settings: Settings, storage: Storage) -> None:
    file = tmp_path / "texts.csv"
    file.write_text("text,label\n" + "".join(f"sentence {i},{i % 2}\n" for i in range(20)))
    first = take_in_dataset(uploaded(file, settings), storage, settings)
    assert (first.items, first.labelled, first.name) == (20, True, "texts.csv")
    assert take_in_dataset(file, storage, settings).id == first.id
    assert len(storage.datasets.list()) == 1
    assert contents(settings.home / "uploads") == []


def test_a_bad_dataset_leaves_nothing(
    tmp_path: Path, settings: Settings, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.domain.errors import InvalidInput

    def read(*_: object) -> Any:
        raise InvalidInput("Line 3 has no text.", where="texts.csv")

    monkeypatch.setattr(datasets, "read_in_child", read)
    file = tmp_path / "texts.csv"
    file.write_text("text\n")
    with pytest.raises(InvalidInput, match="Line 3"):
        take_in_dataset(uploaded(file, settings), storage, settings)
    assert storage.datasets.list() == []
    assert contents(settings.home / "uploads") == []


def test_the_worker_side_never_loads_torch() -> None:
    program = (
        "import sys, engine.intake.service, engine.intake.datasets, engine.intake.places, engine.uploads;"
        "print([m for m in ('torch', 'transformers', 'onnx', 'gguf', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
