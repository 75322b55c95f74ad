"""Names inside archives and folders: which are safe, and which are nobody's model."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from engine.domain.errors import IntakeError

_JUNK = re.compile(
    r"(^|/)(\.git|\.cache|\.huggingface|__MACOSX|__pycache__|\.ipynb_checkpoints)/"
    r"|(^|/)(\.DS_Store|\.gitattributes|\.gitignore|Thumbs\.db|desktop\.ini|\._[^/]*)$"
)
_MAX_DEPTH = 32
_MAX_PART = 255


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """How much an upload may become. `ratio`: unpacked bytes per packed byte."""

    total_bytes: int
    members: int = 10_000
    ratio: float = 100.0


@dataclass(slots=True)
class Census:
    """Counts what has been unpacked so far and refuses what goes over the limits."""

    limits: UnpackLimits
    members: int = 0
    bytes: int = 0
    names: set[str] = field(default_factory=set)

    def expect(self, members: int) -> None:
        """Raises IntakeError when these are too many files."""
        if members > self.limits.members:
            raise IntakeError(
                f"The upload holds more than {self.limits.members:,} files.",
                mend="Pack only the model's own files: config.json, weights and tokenizer.",
            )

    def admit(self, name: str) -> PurePosixPath | None:
        """The safe relative path of a file's member name, None for junk. Raises IntakeError."""
        self.members += 1
        self.expect(self.members)
        path = safe_path(name)
        if is_junk(path):
            return None
        if str(path) in self.names:
            raise IntakeError("Two members of the archive have the same name.", mend="Pack it again.", where=str(path))
        self.names.add(str(path))
        return path

    def grow(self, count: int) -> None:
        """Account for `count` more unpacked bytes. Raises IntakeError."""
        self.bytes += count
        if self.bytes > self.limits.total_bytes:
            raise IntakeError(
                f"The upload unpacks to more than the {self.limits.total_bytes:,} bytes allowed.",
                mend="Upload only the files the model needs, or raise SPEEDRAIL_MAX_UPLOAD_BYTES.",
            )


def safe_path(name: str) -> PurePosixPath:
    """`name` as a relative path that stays below its root. Raises IntakeError."""
    plain = name.replace("\\", "/")
    parts = [p for p in plain.split("/") if p not in ("", ".")]
    if plain.startswith("/") or re.match(r"^[A-Za-z]:", plain) or ".." in parts:
        raise IntakeError(
            "A member of the archive points outside of it.",
            mend="Pack the model's folder again with relative paths, without ../ and without a leading /.",
            where=_shown(name),
        )
    if not parts or len(parts) > _MAX_DEPTH or any(len(p.encode(errors="replace")) > _MAX_PART for p in parts):
        raise IntakeError("A member's name is empty, too long or too deep.", mend="Rename it.", where=_shown(name))
    if not plain.isprintable():
        raise IntakeError(
            "A member's name has unprintable characters.", mend="Rename it and pack again.", where=_shown(name)
        )
    return PurePosixPath(*parts)


def is_junk(path: PurePosixPath) -> bool:
    """Whether this is left by version control or an operating system and belongs to no model."""
    return _JUNK.search(str(path)) is not None


def refuse_special(name: str, kind: str) -> IntakeError:
    return IntakeError(
        f"The upload holds a {kind}; only plain files and folders are taken.",
        mend="Pack again with the links replaced by the files they point to (cp -rL, tar --dereference).",
        where=_shown(name),
    )


def open_new(root: Path, path: PurePosixPath) -> Path:
    """Where to write `path` below `root`, its folders made. Raises IntakeError when a file is in the way."""
    target = root.joinpath(*path.parts)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise IntakeError(
            "A member is both a file and a folder.", mend="Pack it again.", where=str(path), detail=str(error)
        ) from error
    if target.is_dir():
        raise IntakeError("A member is both a file and a folder.", mend="Pack it again.", where=str(path))
    return target


def _shown(name: str) -> str:
    clean = name.encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= 120 else f"{clean[:117]}..."
