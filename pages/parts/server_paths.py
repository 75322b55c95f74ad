"""Models that already lie on the server, under the folders the operator allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

_FILES = (".gguf", ".onnx", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
_DEPTH = 3
_LIMIT = 200


def candidates(roots: Sequence[Path]) -> list[str]:
    """Folders and files that look like models, at most a few levels below the roots."""
    return [str(path) for path in islice((p for root in roots for p in _models_below(root, _DEPTH)), _LIMIT)]


def _models_below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if (entry / "config.json").is_file():
                yield entry
            elif depth > 1 and not entry.is_symlink():
                yield from _models_below(entry, depth - 1)
        elif entry.name.lower().endswith(_FILES):
            yield entry
