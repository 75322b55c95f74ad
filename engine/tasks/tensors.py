"""Anything else: named tensors in, named tensors out, compared number by number.

Without a dataset only image-shaped inputs (batch, 1 or 3 channels, height, width) can be
fed, with the built-in photographs: numbers without a meaning would measure nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.data.items import IMAGES, Items
from engine.domain.artifact import ModelCard, TaskId
from engine.domain.errors import StageError
from engine.domain.metrics import COSINE, MAX_DEVIATION, MEAN_DEVIATION, QUALITY, Measurement
from engine.domain.ports import Array, Outputs
from engine.domain.workload import Workload
from engine.tasks.base import TaskBatch, filled_rows, fitted
from engine.tasks.image_classifier import image_shape
from engine.tasks.images import Preprocessing
from engine.tasks.intervals import largest_of, mean_of, measured
from engine.tasks.text_encoder import cosines

MOST_VALUES = 4096
"""Numbers kept of each output of an item, evenly spaced."""


class Tensors:
    """Answers: each output as float32 (items, at most 4,096 of its numbers)."""

    id = TaskId.TENSORS
    metrics = (COSINE, MAX_DEVIATION, MEAN_DEVIATION)

    def timed_batch(self, card: ModelCard, variant_dir: Path, workload: Workload, items: Items) -> TaskBatch:
        rows = np.arange(workload.batch_size) % len(items)
        return TaskBatch(fitted(card, _inputs(card, variant_dir, workload, items, rows)), np.ones(len(rows), dtype=bool))

    def batches(self, card: ModelCard, variant_dir: Path, workload: Workload, items: Items) -> list[TaskBatch]:
        return [
            TaskBatch(fitted(card, _inputs(card, variant_dir, workload, items, rows)), real)
            for rows, real in filled_rows(len(items), workload.batch_size)
        ]

    def answer(self, outputs: Outputs, batch: TaskBatch) -> Outputs:
        kept: dict[str, Array] = {}
        for name, array in outputs.items():
            if array.shape[:1] != batch.real.shape:
                raise StageError(f"The output {name} has no batch axis.", mend="Choose batch_size=1, or export it with one.")
            flat = array.reshape(len(array), -1)[batch.real]
            places = np.unique(np.linspace(0, flat.shape[1] - 1, MOST_VALUES).astype(int))
            kept[name] = flat[:, places].astype(np.float32)
        return kept

    def labels(self, card: ModelCard, variant_dir: Path, items: Items) -> Array | None:
        return None

    def score(self, reference: Outputs, answers: Outputs, labels: Array | None) -> list[Measurement]:
        """Quality is the mean over items of the cosine of all outputs laid end to end."""
        names = sorted(reference)
        expected = np.concatenate([reference[name] for name in names], axis=1).astype(np.float64)
        given = np.concatenate([answers[name] for name in names], axis=1).astype(np.float64)
        away = np.abs(given - expected)
        similarity = cosines(expected, given)
        deviations = np.stack([away.sum(axis=1), np.abs(expected).sum(axis=1)], axis=1)
        return [
            mean_of(COSINE, similarity), largest_of(MAX_DEVIATION, away.max(axis=1)),
            measured(MEAN_DEVIATION, deviations, _relative), mean_of(QUALITY, similarity),
        ]  # fmt: skip


def _relative(sums: Array) -> Array:
    ratio: Array = sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], 1)
    return ratio


def _inputs(card: ModelCard, directory: Path, workload: Workload, items: Items, rows: Array) -> dict[str, Array]:
    if IMAGES not in items.arrays:
        return {name: array[rows] for name, array in items.arrays.items()}
    spec = card.inputs[0]
    channels = spec.shape[1] if len(spec.shape) == 4 else 0
    if len(card.inputs) != 1 or not spec.dtype.startswith("float") or channels not in (1, 3):
        raise StageError(
            "The built-in inputs are texts and photographs, and this model takes neither.",
            mend=f"Give an .npz dataset with arrays named {', '.join(s.name for s in card.inputs)}.",
        )
    preprocessing = Preprocessing.of(directory)
    channels, height, width = image_shape(card, spec, workload, preprocessing.size)
    return {spec.name: preprocessing.pixels(items.arrays[IMAGES][rows], height, width, channels)}
