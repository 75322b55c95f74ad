"""`python -m engine intake PATH`: take a model into the store and say what it is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from engine.cli.waiting import say_who_holds
from engine.domain.artifact import Artifact
from engine.domain.codec import as_data
from engine.domain.errors import InvalidInput
from engine.domain.experiment import Progress
from engine.execution.lock import HostLock
from engine.settings import Settings
from storage import Storage, open_storage


def intake(settings: Settings, path: str, *, name: str, as_json: bool) -> int:
    artifact = take_in_path(Path(path), name, open_storage(settings), settings)
    if as_json:
        print(json.dumps(described(artifact), indent=2))
    else:
        print("\n".join(f"{key:14} {value}" for key, value in _lines(artifact)))
    return 0


def take_in_path(path: Path, name: str, storage: Storage, settings: Settings, host: HostLock | None = None) -> Artifact:
    """An artifact from files on this machine. Raises IntakeError, InvalidInput.

    Waits for the host; `host` None: the installation's own lock.
    """
    from engine.intake.service import take_in

    source = path.expanduser()
    if not source.exists():
        raise InvalidInput(f"There is no file or folder {path}.", mend="Give the path of a model's files.")
    with (host or HostLock(settings.home)).hold("intake", say_who_holds()):
        return take_in(
            source.resolve(), name or source.stem or source.resolve().name, str(path), storage, settings, _tell
        )


def described(artifact: Artifact) -> dict[str, Any]:
    """An artifact as plain data: the card's fields beside its identity."""
    return {
        "id": artifact.id,
        "sha256": artifact.id,
        "name": artifact.name,
        "size_bytes": artifact.size_bytes,
        "source": artifact.source,
        **as_data(artifact.card),
    }


def _lines(artifact: Artifact) -> list[tuple[str, object]]:
    card = artifact.card
    return [
        ("id", artifact.id),
        ("name", artifact.name),
        ("format", card.format.label),
        ("architecture", card.architecture),
        ("task", card.task.label),
        ("parameters", f"{card.parameters:,}"),
        ("stored as", card.dtype),
        ("size", f"{artifact.size_bytes:,} bytes"),
        ("inputs", ", ".join(f"{i.name} {i.dtype} {list(i.shape)}" for i in card.inputs)),
        *(("note", note) for note in card.notes),
    ]


def _tell(progress: Progress) -> None:
    print(f"{progress.stage} {progress.fraction:.0%}", file=sys.stderr)
