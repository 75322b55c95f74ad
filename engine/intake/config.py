"""JSON files beside a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.domain.errors import IntakeError
from engine.intake.hostile import reading

CONFIG = "config.json"
_LARGEST = 10 * 2**20


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises IntakeError."""
    mend = "Save the model again with save_pretrained and upload the new files."
    if file.stat().st_size > _LARGEST:
        raise IntakeError("The file is too large for what it should be.", mend=mend, where=file.name)
    with reading("The file is not valid JSON.", mend=mend, where=file.name):
        data = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise IntakeError("The file is not a JSON object.", mend=mend, where=file.name)
    return data
