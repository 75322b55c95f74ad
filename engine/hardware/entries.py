"""What all catalogues of hardware have in common: TOML tables with a source, read once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar

from engine.domain.errors import NotFound

DATA = Path(__file__).parent / "data"


class SourceStatus(StrEnum):
    """How well a figure is founded."""

    VERIFIED = "verified"
    """Measured by somebody other than the vendor, who agrees."""
    DATASHEET = "datasheet"
    ASSUMED = "assumed"
    """Ours; the source says from what."""


class Entry(Protocol):
    @property
    def id(self) -> str: ...


EntryT = TypeVar("EntryT", bound=Entry)


def tables(file: str, kind: str) -> list[dict[str, Any]]:
    """The `[[kind]]` tables of a data file."""
    found: list[dict[str, Any]] = tomllib.loads((DATA / file).read_text())[kind]
    return found


def pick(entries: Iterable[EntryT], id: str, what: str) -> EntryT:
    """The entry of that id. Raises NotFound with the known ones."""
    known = {entry.id: entry for entry in entries}
    if id not in known:
        raise NotFound(f"There is no {what} {id!r}.", mend=f"Known: {', '.join(known)}.", where=id)
    return known[id]
