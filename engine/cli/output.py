"""Where a command's result goes: a table for a person, JSON for a program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.domain.errors import InvalidInput


def check_destination(destination: str | None) -> None:
    """Refuse a file that cannot be made before anything heavy begins. Raises InvalidInput."""
    if destination and destination != "-" and not Path(destination).expanduser().absolute().parent.is_dir():
        raise InvalidInput(f"There is no folder for {destination}.", mend="Make it first.", where="--json")


def show(data: Any, text: str, destination: str | None) -> None:
    """`destination` `-`: the data as JSON to stdout; a path: JSON there and the text to stdout; None: the text."""
    if destination == "-":
        print(json.dumps(data, indent=2))
        return
    if destination:
        try:
            Path(destination).expanduser().write_text(json.dumps(data, indent=2) + "\n")
        except OSError as error:
            raise InvalidInput(f"{destination} cannot be written: {error.strerror}.", where="--json") from None
    print(text)
