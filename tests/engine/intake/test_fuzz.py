"""Whatever is done to the bytes of a good model: it gives a card, or an IntakeError, nothing else."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from engine.domain.artifact import ModelCard
from engine.domain.errors import IntakeError
from engine.intake.inspection import serve
from engine.requests import InspectRequest
from tests.engine.intake.conftest import unheard
from tests.engine.intake.ggufs import tiny_gguf
from tests.engine.intake.packing import tarred, zipped

FEW = settings(
    max_examples=120, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


KEYS = (
    "hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size", "architectures", "model_type",
    "max_position_embeddings", "hidden_act", "id2label", "torch_dtype", "pad_token_id", "layer_norm_eps",
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@st.composite
def damage(draw: DrawFn) -> Callable[[bytes], bytes]:
    """Flip, cut, insert, repeat: mostly near the start, where headers are."""
    places = st.one_of(st.floats(0, 0.05), st.floats(0, 1))
    steps = draw(
        st.lists(st.tuples(st.sampled_from("xcird"), places, st.binary(min_size=1, max_size=9)), min_size=1, max_size=6)
    )

    def apply(content: bytes) -> bytes:
        for how, share, piece in steps:
            at = int(share * len(content))
            match how:
                case "x":
                    content = content[:at] + piece + content[at + len(piece) :]
                case "c":
                    content = content[:at]
                case "i":
                    content = content[:at] + piece + content[at:]
                case "r":
                    content = content[:at] + content[at : at + 64] * 2 + content[at + 64 :]
                case "d":
                    content = content[:at] + content[at + len(piece) :]
        return content

    return apply


def read(name: str, content: bytes, *, beside: dict[str, bytes] | None = None) -> ModelCard | None:
    """The card, or None for an IntakeError that says what and how to mend it."""
    with tempfile.TemporaryDirectory() as place:
        upload, into = Path(place) / "upload", Path(place) / "into"
        upload.mkdir()
        into.mkdir()
        for file, data in ({name: content} | (beside or {})).items():
            (upload / file).write_bytes(data)
        source = upload if beside else upload / name
        try:
            return serve(InspectRequest(str(source), str(into), max_bytes=1 << 26), unheard).card
        except IntakeError as error:
            assert error.what and error.mend
            assert not Path(place, "evil").exists()
            return None


@pytest.fixture(scope="session")
def gguf_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("gguf") / "model.gguf"
    tiny_gguf(file)
    return file.read_bytes()


@FEW
@given(how=damage())
def test_onnx(how: Callable[[bytes], bytes], mlp: Path) -> None:
    read("model.onnx", how((mlp / "model.onnx").read_bytes()))


@FEW
@given(how=damage())
def test_gguf(how: Callable[[bytes], bytes], gguf_bytes: bytes) -> None:
    read("model.gguf", how(gguf_bytes))


@FEW
@given(how=damage())
def test_safetensors(how: Callable[[bytes], bytes], bert: Path) -> None:
    beside = {"config.json": (bert / "config.json").read_bytes()}
    read("model.safetensors", how((bert / "model.safetensors").read_bytes()), beside=beside)


@FEW
@given(how=damage())
def test_config(how: Callable[[bytes], bytes], bert: Path) -> None:
    beside = {"model.safetensors": (bert / "model.safetensors").read_bytes()}
    read("config.json", how((bert / "config.json").read_bytes()), beside=beside)


@FEW
@given(value=VALUES, key=st.sampled_from(KEYS))
def test_config_values(value: object, key: str, bert: Path) -> None:
    config = json.loads((bert / "config.json").read_text()) | {key: value}
    beside = {"model.safetensors": (bert / "model.safetensors").read_bytes()}
    read("config.json", json.dumps(config).encode(), beside=beside)


@FEW
@given(how=damage(), ending=st.sampled_from(["zip", "tar", "tar.gz", "tar.xz"]))
def test_archives(how: Callable[[bytes], bytes], ending: str, mlp: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        pack = zipped if ending == "zip" else tarred
        content = pack(mlp, Path(place) / f"model.{ending}").read_bytes()
    read(f"model.{ending}", how(content))


@FEW
@given(
    content=st.binary(max_size=600), name=st.sampled_from(["m.zip", "m.gguf", "m.onnx", "m.safetensors", "m.tar", "m"])
)
def test_any_bytes(content: bytes, name: str) -> None:
    assert read(name, content) is None
