from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from engine.domain.errors import IntakeError
from engine.intake.identity import artifact_id
from engine.intake.inspection import serve
from engine.intake.members import UnpackLimits, is_junk, safe_path
from engine.intake.unpack import unpack
from engine.requests import InspectRequest
from tests.engine.intake.conftest import unheard
from tests.engine.intake.packing import copied, tar_of, tarred, zip_of, zipped

LIMITS = UnpackLimits(total_bytes=1 << 30)


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def names(folder: Path) -> set[str]:
    return {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
@pytest.mark.parametrize("prefix", ["", "one/", "one/two/"])
def test_every_archive_gives_the_same_files(ending: str, prefix: str, bert: Path, into: Path, tmp_path: Path) -> None:
    pack = zipped if ending == ".zip" else tarred
    unpack(pack(bert, tmp_path / f"model{ending}", prefix), into, LIMITS)
    assert names(into) == names(bert)
    assert artifact_id(into) == artifact_id(bert)


def test_a_misleading_name_does_not_matter(bert: Path, into: Path, tmp_path: Path) -> None:
    unpack(zipped(bert, tmp_path / "model.tar.gz"), into, LIMITS)
    assert names(into) == names(bert)


def test_junk_is_left_out(bert: Path, into: Path, tmp_path: Path) -> None:
    folder = copied(bert, tmp_path / "model")
    for junk in (
        ".git/HEAD",
        "__MACOSX/._config.json",
        ".DS_Store",
        ".gitattributes",
        ".cache/x",
        "1_Pooling/._config.json",
    ):
        (folder / junk).parent.mkdir(parents=True, exist_ok=True)
        (folder / junk).write_text("junk")
    unpack(zipped(folder, tmp_path / "model.zip", "model/"), into, LIMITS)
    assert names(into) == names(bert)


def test_a_folder_with_links_inside_is_taken(bert: Path, into: Path, tmp_path: Path) -> None:
    """The cache of huggingface_hub is laid out so: snapshots link to blobs beside them."""
    blobs = copied(bert, tmp_path / "cache" / "blobs")
    snapshot = tmp_path / "cache" / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(os.path.relpath(blob, snapshot))
    with pytest.raises(IntakeError, match="leads out of the folder"):
        unpack(snapshot, into, LIMITS)
    unpack(snapshot, into, LIMITS, roots=[tmp_path / "cache"])
    assert names(into) == names(bert)
    assert not any(f.is_symlink() for f in into.rglob("*"))


def test_the_total_is_limited_even_without_compression(into: Path, tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "m.tar.gz", ("model.gguf", np.random.default_rng(0).bytes(300_000)))
    with pytest.raises(IntakeError, match="unpacks to more than the 200,000 bytes"):
        unpack(archive, into, UnpackLimits(total_bytes=200_000))
    with pytest.raises(IntakeError, match="unpacks to more than the 100 bytes"):
        unpack(tmp_path / "m.tar.gz", into, UnpackLimits(total_bytes=100))


def test_a_small_file_may_pack_well(into: Path, tmp_path: Path) -> None:
    unpack(zip_of(tmp_path / "m.zip", {"merges.txt": b"a b\n" * 50_000, "x.json": b"{}"}), into, LIMITS)
    assert (into / "merges.txt").stat().st_size == 200_000


def test_sparse_weights_may_pack_well(into: Path, tmp_path: Path) -> None:
    """Nine of ten weights zero, as unstructured pruning leaves them: compresses, yet is no bomb."""
    rng = np.random.default_rng(0)
    weights = np.where(rng.random(1 << 20) < 0.9, 0, rng.normal(size=1 << 20)).astype(np.float32)
    unpack(zip_of(tmp_path / "m.zip", {"w.safetensors": weights.tobytes(), "x.json": b"{}"}), into, LIMITS)
    assert (into / "w.safetensors").stat().st_size == 4 << 20


@pytest.mark.parametrize(
    "name", ["../a", "a/../../b", "/a", "C:\\a", "c:a", "..\\a", "a/..", "a/\x00b", "a\nb", "", "./", "x" * 300]
)
def test_unsafe_names(name: str) -> None:
    with pytest.raises(IntakeError):
        safe_path(name)


@pytest.mark.parametrize(
    ("name", "safe"), [("a/b.json", "a/b.json"), ("./a", "a"), ("a//b", "a/b"), ("a\\b", "a/b"), ("..a", "..a")]
)
def test_safe_names(name: str, safe: str) -> None:
    assert str(safe_path(name)) == safe


def test_junk_is_recognised_by_whole_parts() -> None:
    assert is_junk(safe_path("a/.git/config"))
    assert not is_junk(safe_path("a/x.git/config.json"))
    assert not is_junk(safe_path("cache/config.json"))


def test_what_is_kept_does_not_depend_on_the_packing(bert: Path, tmp_path: Path) -> None:
    """A checkout with code, other frameworks' weights and junk is the same artifact as the bare model."""
    full = copied(bert, tmp_path / "full")
    for extra in ("modeling_bert.py", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "coreml/weights.bin"):
        (full / extra).parent.mkdir(exist_ok=True)
        (full / extra).write_bytes(b"other")
    ids = []
    for number, upload in enumerate(
        (bert, full, zipped(full, tmp_path / "full.zip", "top/"), tarred(bert, tmp_path / "b.tar.xz"))
    ):
        into = tmp_path / f"into{number}"
        into.mkdir()
        result = serve(InspectRequest(str(upload), str(into)), unheard)
        ids.append(artifact_id(into))
        notes = " ".join(result.card.notes)
        assert ("modeling_bert.py" in notes and "pytorch_model.bin" in notes) == (number in (1, 2))
    assert len(set(ids)) == 1


def test_a_lone_file_is_renamed_so_that_its_name_does_not_count(mlp: Path, tmp_path: Path) -> None:
    ids = set()
    for number, name in enumerate(("a.onnx", "b.ONNX")):
        upload, into = tmp_path / name, tmp_path / f"into{number}"
        upload.write_bytes((mlp / "model.onnx").read_bytes())
        into.mkdir()
        serve(InspectRequest(str(upload), str(into)), unheard)
        assert names(into) == {"model.onnx"}
        ids.add(artifact_id(into))
    assert len(ids) == 1
