"""From an upload to a model card: what the sandboxed `inspect` child does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from engine.domain.artifact import ModelCard
from engine.domain.errors import IntakeError
from engine.domain.experiment import Progress
from engine.intake import gguf, huggingface, onnx
from engine.intake.config import CONFIG
from engine.intake.hostile import reading
from engine.intake.members import UnpackLimits
from engine.intake.select import arrange
from engine.intake.sniff import TAKEN
from engine.intake.unpack import unpack
from engine.requests import InspectRequest, InspectResult


def serve(request: InspectRequest, report: Callable[[Progress], None]) -> InspectResult:
    """Unpack `request.source`, keep the model's files in `request.into`, and inspect them.

    Raises IntakeError, whatever the upload holds.
    """
    into = Path(request.into)
    with reading("The upload cannot be read.", mend="Check that it is a model, and upload it again.", where=into.name):
        notes: tuple[str, ...] = ()
        if request.source:
            report(Progress("unpacking", 0.0))
            unpacked = into / ".unpacked"
            unpacked.mkdir()
            limits = UnpackLimits(total_bytes=request.max_bytes)
            unpack(Path(request.source), unpacked, limits, [Path(r) for r in request.roots])
            notes = arrange(unpacked, into)
            shutil.rmtree(unpacked)
        report(Progress("inspecting", 0.5))
        card = inspect(into)
        return InspectResult(replace(card, notes=(*card.notes, *notes)))


def inspect(directory: Path) -> ModelCard:
    """The card of the one model in `directory`, laid out as engine.intake.select says. Raises IntakeError."""
    onnx_model = directory / "model.onnx"
    if onnx_model.is_file():
        return onnx.inspect(onnx_model)
    gguf_files = sorted(directory.glob("*.gguf"))
    if len(gguf_files) == 1:
        return gguf.inspect(gguf_files[0])
    if (directory / CONFIG).is_file():
        return huggingface.inspect(directory)
    raise IntakeError("This is not a model in a format that Speedrail reads.", mend=TAKEN, where=directory.name)
