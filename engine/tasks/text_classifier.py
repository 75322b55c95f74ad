"""Text classifiers: a text in, logits out."""

from __future__ import annotations

from pathlib import Path

from engine.data.items import Items
from engine.domain.artifact import ModelCard, TaskId
from engine.domain.metrics import ACCURACY, AGREEMENT, F1, PROBABILITY_OVERLAP, REGRESSION_ERROR, Measurement
from engine.domain.ports import Array, Outputs
from engine.domain.workload import Workload
from engine.tasks.base import TaskBatch
from engine.tasks.classes import class_ids, logits_of, score_classes
from engine.tasks.text import padded_batches, timed_texts


class TextClassifier:
    """Answers: `logits` float32 (items, labels)."""

    id = TaskId.TEXT_CLASSIFIER
    metrics = (AGREEMENT, PROBABILITY_OVERLAP, ACCURACY, F1, REGRESSION_ERROR)

    def timed_batch(self, card: ModelCard, variant_dir: Path, workload: Workload, items: Items) -> TaskBatch:
        return timed_texts(card, variant_dir, workload, items)

    def batches(self, card: ModelCard, variant_dir: Path, workload: Workload, items: Items) -> list[TaskBatch]:
        return padded_batches(card, variant_dir, workload, items)

    def answer(self, outputs: Outputs, batch: TaskBatch) -> Outputs:
        return logits_of(outputs, batch)

    def labels(self, card: ModelCard, variant_dir: Path, items: Items) -> Array | None:
        return class_ids(variant_dir, items, card.num_labels)

    def score(self, reference: Outputs, answers: Outputs, labels: Array | None) -> list[Measurement]:
        return score_classes(reference, answers, labels)
