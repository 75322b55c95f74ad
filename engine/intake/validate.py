"""What the worker checks of a child's work before it stores it: the child may have been taken over."""

from __future__ import annotations

import stat
from pathlib import Path

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.codec import encode
from engine.domain.errors import IntakeError
from engine.intake.members import is_junk, safe_path
from engine.intake.sniff import Kind, kind_of

_DATA_ENDINGS = frozenset(
    {".json", ".safetensors", ".gguf", ".onnx", ".txt", ".model", ".spm", ".bpe", ".vocab", ".jinja", ".md", ".rst", ""}
)
_CODE_ENDINGS = frozenset({".py", ".pyc", ".so", ".sh", ".pkl", ".pth", ".pt2", ".exe", ".dll"})
_MAGIC = {".safetensors": Kind.SAFETENSORS, ".gguf": Kind.GGUF}
_LARGEST_CARD = 1 << 20


def validate(directory: Path, card: ModelCard) -> None:
    """Raises IntakeError unless `directory` holds plain data files of the card's format and nothing else."""
    files = []
    for path in sorted(directory.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode):
            raise _untrusted(f"{path.name} is not a plain file")
        files.append(path)
        _check_file(path, directory, card.format)
    names = {f.relative_to(directory).as_posix() for f in files}
    if not _expected(card.format, names):
        raise _untrusted("the model's own files are missing")
    _check_card(card, sum(f.stat().st_size for f in files))


def _check_file(path: Path, directory: Path, format_: ArtifactFormat) -> None:
    name = safe_path(path.relative_to(directory).as_posix())
    ending = path.suffix.lower()
    # the external data of an ONNX model may have any name
    is_data = ending in _DATA_ENDINGS if format_ is not ArtifactFormat.ONNX else ending not in _CODE_ENDINGS
    if not is_data or is_junk(name):
        raise _untrusted(f"{name} does not belong to a model")
    if ending in _MAGIC and kind_of(path) is not _MAGIC[ending]:
        raise _untrusted(f"{name} is not what its name says")


def _expected(format_: ArtifactFormat, names: set[str]) -> bool:
    match format_:
        case ArtifactFormat.ONNX:
            return "model.onnx" in names
        case ArtifactFormat.GGUF:
            return "model.gguf" in names
        case _:
            return "config.json" in names and any(n.endswith(".safetensors") for n in names)


def _check_card(card: ModelCard, size: int) -> None:
    if not 0 <= card.parameters <= 8 * size:
        raise _untrusted(f"{card.parameters:,} parameters do not fit into {size:,} bytes")
    if not card.inputs or (card.format is not ArtifactFormat.ONNX and card.task is TaskId.TENSORS):
        raise _untrusted("it names no inputs or no task")
    if len(encode(card)) > _LARGEST_CARD:
        raise _untrusted("its description is too long")


def _untrusted(why: str) -> IntakeError:
    return IntakeError(
        f"What was read from the upload is not consistent: {why}.",
        mend="Do not trust this file; take the model from its source.",
    )
