"""Archives and files for tests, good and bad."""

from __future__ import annotations

import io
import json
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def zipped(folder: Path, archive: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for file in sorted(folder.rglob("*")):
            opened.write(file, prefix + file.relative_to(folder).as_posix())
    return archive


def tarred(folder: Path, archive: Path, prefix: str = "") -> Path:
    """Compressed as the name's ending says (.tar, .tar.gz, .tar.bz2, .tar.xz)."""
    mode = "w:" + archive.name.rpartition("tar")[2].lstrip(".")
    with tarfile.open(archive, mode) as opened:  # type: ignore[call-overload]
        opened.add(folder, prefix.rstrip("/") or ".")
    return archive


def zip_of(archive: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return archive


def zip_with_mode(archive: Path, name: str, mode: int, content: bytes = b"config.json") -> Path:
    """A zip with one member of a Unix file type (a link, a device)."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(info, content)
    return archive


def tar_of(archive: Path, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    with tarfile.open(archive, "w:gz") as opened:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                opened.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                opened.addfile(info, io.BytesIO(member[1]))
    return archive


def tar_link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def copied(folder: Path, into: Path) -> Path:
    return Path(shutil.copytree(folder, into))


def edited(folder: Path, file: str = "config.json", drop: str = "", **changes: object) -> Path:
    """`folder` with fields of a JSON file changed."""
    path = folder / file
    data = json.loads(path.read_text()) if path.exists() else {}
    data.update(changes)
    data.pop(drop, None)
    path.write_text(json.dumps(data))
    return folder


def raw_safetensors(file: Path, header: object, data: bytes = b"") -> Path:
    """A safetensors file with any header, true or not."""
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return file


def small_safetensors(file: Path, *shape: int) -> Path:
    save_file({"weight": np.zeros(shape or (2, 2), np.float32)}, file)
    return file
