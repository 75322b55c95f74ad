"""Zip and tar, read as a stream and never trusted: names, links, ratios and sizes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

from engine.domain.errors import IntakeError
from engine.intake.hostile import reading
from engine.intake.members import Census, open_new, refuse_special

_BLOCK = 1 << 20
_SLACK = 1 << 18
"""Bytes below which a ratio says nothing: a small text file packs a hundredfold."""
_DAMAGED = "The archive is damaged or incomplete."
_AGAIN = "Pack and upload it again; a download that broke off is the usual cause."


def unzip(archive: Path, into: Path, census: Census) -> None:
    """Extract `archive` below `into`. Raises IntakeError."""
    with reading(_DAMAGED, mend=_AGAIN, where=archive.name), zipfile.ZipFile(archive) as opened:
        census.expect(len(opened.infolist()))
        whole = _Gauge(census, archive.name, archive.stat().st_size)
        for info in opened.infolist():
            _check_zip_member(info)
            path = None if info.is_dir() else census.admit(info.filename)
            if path is None:
                continue
            part = _Gauge(census, str(path), info.compress_size)
            with opened.open(info) as source, open_new(into, path).open("wb") as target:
                while block := source.read(_BLOCK):
                    whole.grow(len(block))
                    part.grow(len(block))
                    census.grow(len(block))
                    target.write(block)


def untar(archive: Path, into: Path, census: Census) -> None:
    """Extract a plain, gzip, bzip2 or xz tar below `into`. Raises IntakeError."""
    with reading(_DAMAGED, mend=_AGAIN, where=archive.name), archive.open("rb") as raw:
        plain = _Metered(_decompressed(raw), census, archive.name, raw.tell)
        with tarfile.open(fileobj=plain, mode="r|") as opened:  # type: ignore[call-overload]
            for member in opened:
                path = _checked_tar_member(member, census)
                source = opened.extractfile(member) if path else None
                if path is None or source is None:
                    continue
                with source, open_new(into, path).open("wb") as target:
                    while block := source.read(_BLOCK):
                        target.write(block)
        while plain.read(_BLOCK):
            """Up to the very end, where a compressed stream keeps its checksum."""


def _check_zip_member(info: zipfile.ZipInfo) -> None:
    if info.flag_bits & 0x41:
        raise IntakeError("The archive is encrypted.", mend="Pack it again without a password.", where=info.filename)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise refuse_special(info.filename, "symbolic link")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise refuse_special(info.filename, "device")


def _checked_tar_member(member: tarfile.TarInfo, census: Census) -> PurePosixPath | None:
    if member.isdir():
        return None
    for kind, found in (
        ("symbolic link", member.issym()),
        ("hard link", member.islnk()),
        ("device", member.isdev()),
        ("sparse file", member.issparse()),
        ("special file", not member.isreg()),
    ):
        if found:
            raise refuse_special(member.name, kind)
    return census.admit(member.name)


def _decompressed(raw: IO[bytes]) -> Any:
    start = raw.read(6)
    raw.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw, mode="rb")
    if start.startswith(b"BZh"):
        return bz2.BZ2File(raw, "rb")
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile(raw, "rb")
    return raw


class _Gauge:
    """Refuses when what came out is far more than what went in: a decompression bomb."""

    def __init__(self, census: Census, name: str, packed: int) -> None:
        self._limit = census.limits.ratio
        self._name = name
        self.packed = packed
        self._unpacked = 0

    def grow(self, count: int) -> None:
        self._unpacked += count
        if self._unpacked > _SLACK + self._limit * self.packed:
            raise IntakeError(
                f"The archive unpacks to more than {self._limit:g} times its size, as decompression bombs do.",
                mend="Models hardly compress: pack the model's own files again, or upload the folder uncompressed.",
                where=self._name,
            )


class _Metered:
    """A decompressed stream that is gauged at every read, whatever asks for it."""

    def __init__(self, stream: Any, census: Census, name: str, consumed: Callable[[], int]) -> None:
        self._stream = stream
        self._census = census
        self._consumed = consumed
        self._gauge = _Gauge(census, name, 0)

    def read(self, size: int) -> bytes:
        block: bytes = self._stream.read(min(size, _BLOCK))
        self._gauge.packed = self._consumed()
        self._gauge.grow(len(block))
        self._census.grow(len(block))
        return block
