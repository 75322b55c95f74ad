"""What a training can go on from: the student as it is and at its best, the optimizer's moments, the curve.

Tensors are safetensors and words are JSON, because another process reads them. Each
save replaces the one before it in one step, so that a kill leaves the old or the new.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

_WORDS, _NOW, _BEST, _MOMENTS = "progress.json", "now.safetensors", "best.safetensors", "moments.safetensors"


@dataclass(frozen=True, slots=True)
class Point:
    """One look at the held-out part. `seconds` of wall time and `cpu_seconds` since the training began,
    over all processes that had it; `loss` is the mean of the training batches since the last point."""

    step: int
    seconds: float
    cpu_seconds: float
    loss: float | None
    quality: float


@dataclass(slots=True)
class Position:
    """How far a training is."""

    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    parts: int = 1
    """Pieces a batch is answered in, because whole ones did not fit memory."""
    curve: list[Point] = field(default_factory=list)
    ended: str = ""
    """Why it ended; empty while it goes on."""
    sources: dict[str, int] = field(default_factory=dict)
    """What it learnt from."""

    @property
    def best(self) -> Point | None:
        return max(self.curve, key=lambda point: point.quality, default=None)


class Checkpoint:
    """A directory that outlives the process, or none: then nothing is kept between processes.

    `fingerprint` names what is trained; what another training left there is thrown away.
    """

    def __init__(self, directory: Path | None, fingerprint: str) -> None:
        self._directory = directory
        self._fingerprint = fingerprint

    def save(self, position: Position, now: Mapping[str, Tensor], best: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        if self._directory is None:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        new = self._directory / "new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        for name, tensors in ((_NOW, now), (_BEST, best), (_MOMENTS, moments)):
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, new / name)
        (new / _WORDS).write_text(json.dumps({"fingerprint": self._fingerprint, "position": asdict(position)}))
        last = self._directory / "last"
        before = self._directory / "before"
        shutil.rmtree(before, ignore_errors=True)
        if last.exists():
            last.rename(before)
        new.rename(last)
        shutil.rmtree(before, ignore_errors=True)

    def finished(self) -> tuple[Position, dict[str, Tensor]] | None:
        """(position, best) of a training that reached its end."""
        found = self.load()
        return (found[0], found[2]) if found and found[0].ended else None

    def load(self) -> tuple[Position, dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]] | None:
        """(position, now, best, moments) of the last save, or None."""
        for name in ("last", "before"):
            found = self._directory / name if self._directory else None
            if found is not None and (found / _WORDS).is_file():
                words: dict[str, Any] = json.loads((found / _WORDS).read_text())
                if words["fingerprint"] != self._fingerprint:
                    return None
                position = words["position"]
                position["curve"] = [Point(**point) for point in position["curve"]]
                now, best, moments = (load_file(found / file) for file in (_NOW, _BEST, _MOMENTS))
                return Position(**position), now, best, moments
        return None
