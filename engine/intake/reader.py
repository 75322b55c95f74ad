"""Asking a sandboxed child to read what a stranger gave: the one seam to engine.sandbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.domain.codec import as_data
from engine.domain.errors import ChildError, IntakeError
from engine.domain.experiment import Progress
from engine.sandbox import Limits, start_child
from engine.settings import Settings

WALL_SECONDS = 3600.0
_LEAST_FILE_BYTES = 2**30


def read_in_child(
    kind: str, request: object, readable: Sequence[Path], scratch: Path, settings: Settings,
    report: Callable[[Progress], None],
) -> Any:  # fmt: skip
    """The data of the child's result. Raises the child's own InvalidInput, or IntakeError when it died over its input."""
    limits = Limits.of_host(
        wall_seconds=WALL_SECONDS, memory_share=0.5, file_bytes=max(settings.max_upload_bytes, _LEAST_FILE_BYTES)
    )
    try:
        with start_child(
            kind, readable=list(readable), writable=[scratch], limits=limits, log=scratch / "child.log", threads=1,
            least_level=settings.sandbox_level,
        ) as child:  # fmt: skip
            return child.ask({"request": as_data(request)}, timeout=WALL_SECONDS, report=report)
    except ChildError as error:
        raise IntakeError(
            f"Reading the file broke off: {error.what}",
            mend="The file is damaged or made to do harm, or this host has too little memory for it.",
            detail=error.detail,
        ) from error
