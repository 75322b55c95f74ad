"""What a file is, judged by its first bytes."""

from __future__ import annotations

import zipfile
from enum import StrEnum
from pathlib import Path

from engine.domain.errors import IntakeError

CONVERT = (
    "Convert it where you trust it: AutoModel.from_pretrained(folder).save_pretrained(new_folder) of transformers "
    "writes safetensors; then upload the new folder."
)
PICKLE = (
    "This is a PyTorch checkpoint (a pickle). Pickles can run code when they are opened, so they are never opened here."
)
TAKEN = "Upload a zip or tar of a Hugging Face folder (config.json and .safetensors), a .gguf or an .onnx file."


class Kind(StrEnum):
    ZIP = "zip"
    TAR = "tar"
    GGUF = "gguf"
    SAFETENSORS = "safetensors"
    PICKLE = "pickle"
    LFS_POINTER = "lfs_pointer"
    EMPTY = "empty"
    OTHER = "other"


_MAGIC = (
    (b"GGUF", Kind.GGUF),
    (b"FUGG", Kind.GGUF),
    (b"PK\x03\x04", Kind.ZIP),
    (b"PK\x05\x06", Kind.ZIP),
    (b"\x1f\x8b", Kind.TAR),
    (b"BZh", Kind.TAR),
    (b"\xfd7zXZ\x00", Kind.TAR),
    (b"version https://git-lfs", Kind.LFS_POINTER),
)


def kind_of(file: Path) -> Kind:
    """By content alone. A torch checkpoint is a zip with a pickle in it, and counts as a pickle."""
    with file.open("rb") as opened:
        head = opened.read(512)
    if not head:
        return Kind.EMPTY
    kind = next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)
    if kind is Kind.ZIP and _holds_pickle(file):
        return Kind.PICKLE
    if kind is not None:
        return kind
    if head[257:262] == b"ustar":
        return Kind.TAR
    if _starts_pickle(head):
        return Kind.PICKLE
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= file.stat().st_size - 8:
        return Kind.SAFETENSORS
    return Kind.OTHER


def refuse_unusable(file: Path, kind: Kind, name: str) -> None:
    """Raise IntakeError for kinds of which nothing can be made, whatever the file is called."""
    if kind is Kind.EMPTY:
        raise IntakeError(
            "The file is empty: it has 0 bytes.",
            mend="Check the file where it came from, and upload it again.",
            where=name,
        )
    if kind is Kind.PICKLE:
        raise IntakeError(PICKLE, mend=CONVERT, where=name)
    if kind is Kind.LFS_POINTER:
        raise IntakeError(
            "This is a Git LFS pointer, a few lines of text that stand for the real file.",
            mend="Run `git lfs pull` in the folder, then pack it again.",
            where=name,
        )


def _starts_pickle(head: bytes) -> bool:
    return len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5


def _holds_pickle(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as opened:
            return any(name.rsplit("/", 1)[-1] == "data.pkl" for name in opened.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
