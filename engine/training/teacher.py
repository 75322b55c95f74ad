"""A teacher that answers each batch once: what it said is kept, as long as memory allows."""

from __future__ import annotations

from collections.abc import Sequence

import psutil
import torch

from engine.training.objectives import Inputs, Objective, Targets
from engine.training.seen import Watched

_SHARE = 0.25
"""Of the memory that is free at the beginning."""


class Teacher:
    """Answers batches by their place in `batches`; the kept answers are in half precision."""

    def __init__(self, watched: Watched, objective: Objective, batches: Sequence[Inputs]) -> None:
        self._watched = watched
        self._objective = objective
        self._batches = batches
        self._kept: dict[int, Targets] = {}
        self._room = int(psutil.virtual_memory().available * _SHARE)
        self.answered = 0
        """Batches that the model itself answered; asking for one again costs nothing."""

    def targets(self, place: int) -> Targets:
        """What the student is to imitate on batch `place`."""
        if place in self._kept:
            return self._kept[place]
        batch = self._batches[place]
        with torch.inference_mode():
            made = self._objective.targets(self._watched(batch), batch)
        # a clone is an ordinary tensor again: one of inference mode cannot take part in a loss
        targets = {name: _small(tensor).clone() for name, tensor in made.items()}
        self.answered += 1
        size = sum(t.numel() * t.element_size() for t in targets.values())
        if size <= self._room:
            self._room -= size
            self._kept[place] = targets
        return targets


def _small(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point() or tensor.abs().max() > torch.finfo(torch.float16).max:
        return tensor
    return tensor.half()
