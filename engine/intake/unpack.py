"""From what was uploaded to plain files: archives, folders, single model files.

Runs in the sandboxed child. What is refused here is refused by content, not by
name, because names lie.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from engine.domain.errors import IntakeError
from engine.intake.archives import untar, unzip
from engine.intake.hostile import reading
from engine.intake.members import Census, UnpackLimits, is_junk, open_new, refuse_special
from engine.intake.sniff import Kind, kind_of

_BLOCK = 1 << 20
_TAKEN = "Upload a zip or tar of a Hugging Face folder (config.json and .safetensors), a .gguf or an .onnx file."


def unpack(upload: Path, into: Path, limits: UnpackLimits, roots: Sequence[Path] = ()) -> None:
    """Lay the files of `upload` (an archive, a folder or one model file) into the folder `into`.

    Junk of version control and operating systems is left out, and a single top folder
    is taken away. Links in a folder are followed when they end below it or below one of
    `roots`. Raises IntakeError.
    """
    census = Census(limits)
    with reading("The upload cannot be read.", mend="Upload it again.", where=upload.name):
        _extractor(upload, roots)(upload, into, census)
        _flatten(into)
    if not any(into.iterdir()):
        raise IntakeError("The upload holds no files.", mend=_TAKEN, where=upload.name)


def _extractor(upload: Path, roots: Sequence[Path]) -> Callable[[Path, Path, Census], None]:
    if upload.is_dir():
        return lambda folder, into, census: _copy_folder(folder, into, census, roots)
    if not upload.exists():
        raise IntakeError("There is no such file or folder.", mend="Check the path.", where=str(upload))
    if not upload.is_file():
        raise refuse_special(upload.name, "special file")
    match kind_of(upload):
        case Kind.ZIP:
            return unzip
        case Kind.TAR:
            return untar
        case _:
            return _copy_single


def _copy_single(file: Path, into: Path, census: Census) -> None:
    path = census.admit(file.name)
    if path is not None:
        _copy(file, open_new(into, path), census)


def _copy_folder(folder: Path, into: Path, census: Census, roots: Sequence[Path]) -> None:
    allowed = [folder.resolve(), *(r.resolve() for r in roots)]
    for found in _files_below(folder, folder):
        relative = found.relative_to(folder)
        if is_junk(PurePosixPath(relative)):
            continue
        real = found.resolve()
        if not any(real.is_relative_to(root) for root in allowed):
            raise refuse_special(str(relative), "link that leads out of the folder")
        if not stat.S_ISREG(real.stat().st_mode):
            raise refuse_special(str(relative), "special file")
        path = census.admit(str(relative))
        if path is not None:
            _copy(real, open_new(into, path), census)


def _files_below(folder: Path, top: Path) -> Iterator[Path]:
    """Everything that is no folder, in a stable order; linked folders are refused."""
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if not is_junk(PurePosixPath(path.relative_to(top)) / "x"):
                yield from _files_below(path, top)
        elif entry.is_symlink() and entry.is_dir():
            raise refuse_special(str(path.relative_to(top)), "linked folder")
        else:
            yield path


def _copy(source: Path, target: Path, census: Census) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(_BLOCK):
            census.grow(len(block))
            writer.write(block)


def _flatten(into: Path) -> None:
    """Take away folders that hold nothing but one folder."""
    while len(entries := list(into.iterdir())) == 1 and entries[0].is_dir():
        lone = entries[0].rename(into / ".lone")
        for child in list(lone.iterdir()):
            child.rename(into / child.name)
        lone.rmdir()
