"""Image classifiers: a photograph in, logits out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.data.items import IMAGES, Items
from engine.domain.artifact import ModelCard, TaskId, TensorSpec
from engine.domain.errors import StageError
from engine.domain.metrics import ACCURACY, AGREEMENT, F1, PROBABILITY_OVERLAP, REGRESSION_ERROR, Measurement
from engine.domain.ports import Array, Outputs
from engine.domain.workload import Workload
from engine.tasks.base import TaskBatch, filled_rows, fitted
from engine.tasks.classes import class_ids, logits_of, score_classes
from engine.tasks.images import Preprocessing


class ImageClassifier:
    """Answers: `logits` float32 (items, labels)."""

    id = TaskId.IMAGE_CLASSIFIER
    metrics = (AGREEMENT, PROBABILITY_OVERLAP, ACCURACY, F1, REGRESSION_ERROR)

    def timed_batch(self, card: ModelCard, variant_dir: Path, workload: Workload, items: Items) -> TaskBatch:
        """batch_size images; where there are fewer, from the first again."""
        rows = np.arange(workload.batch_size) % len(items)
        pixels = _pixels(card, variant_dir, workload, items, rows)
        return TaskBatch(fitted(card, pixels), np.ones(workload.batch_size, dtype=bool))

    def batches(self, card: ModelCard, variant_dir: Path, workload: Workload, items: Items) -> list[TaskBatch]:
        return [
            TaskBatch(fitted(card, _pixels(card, variant_dir, workload, items, rows)), real)
            for rows, real in filled_rows(len(items), workload.batch_size)
        ]

    def answer(self, outputs: Outputs, batch: TaskBatch) -> Outputs:
        return logits_of(outputs, batch)

    def labels(self, card: ModelCard, variant_dir: Path, items: Items) -> Array | None:
        return class_ids(variant_dir, items, card.num_labels)

    def score(self, reference: Outputs, answers: Outputs, labels: Array | None) -> list[Measurement]:
        return score_classes(reference, answers, labels)


def image_shape(card: ModelCard, spec: TensorSpec, workload: Workload, told: int) -> tuple[int, int, int]:
    """(channels, height, width) for an NCHW input: the graph's fixed sizes first, then the
    workload's image_size, the model's own size, its preprocessor's (`told`), 224."""
    free = workload.image_size or card.image_size or told or 224
    channels, height, width = (size if isinstance(size, int) and size > 0 else 0 for size in spec.shape[1:4])
    return channels or card.num_channels or 3, height or free, width or free


def _pixels(card: ModelCard, directory: Path, workload: Workload, items: Items, rows: Array) -> dict[str, Array]:
    if IMAGES not in items.arrays:
        return {name: array[rows] for name, array in items.arrays.items()}
    spec = card.inputs[0]
    if len(spec.shape) != 4:
        raise StageError(
            f"{spec.name} has {len(spec.shape)} axes; an image input has four.", mend=f"Give an .npz with an array named {spec.name}."
        )
    preprocessing = Preprocessing.of(directory)
    channels, height, width = image_shape(card, spec, workload, preprocessing.size)
    return {spec.name: preprocessing.pixels(items.arrays[IMAGES][rows], height, width, channels)}
