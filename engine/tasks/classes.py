"""What text and image classifiers share: logits, class names, agreement and accuracy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from engine.data.items import Items
from engine.domain.errors import StageError
from engine.domain.metrics import ACCURACY, AGREEMENT, QUALITY, Measurement
from engine.domain.ports import Array, Outputs
from engine.tasks.base import TaskBatch
from engine.tasks.intervals import mean_of, measured

LOGITS = "logits"


def logits_of(outputs: Outputs, batch: TaskBatch) -> Outputs:
    """`logits` float32 (items, labels) of the real rows."""
    array = outputs[LOGITS] if LOGITS in outputs else next(iter(outputs.values()))
    if array.ndim != 2 or array.shape[1] < 2:
        raise StageError(
            f"The output has shape {array.shape}; a classifier gives two or more logits an item.",
            mend="Upload it as ONNX to treat its outputs as plain tensors.",
        )
    return {LOGITS: array[batch.real].astype(np.float32)}


def class_ids(directory: Path, items: Items, num_labels: int) -> Array | None:
    """Labels as class ids; names are looked up in config.json. Raises StageError for unknown ones."""
    if items.labels is None:
        return None
    labels = items.labels if items.labels.dtype.kind == "i" else _looked_up(directory, items.labels)
    if num_labels and (labels.min() < 0 or labels.max() >= num_labels):
        raise StageError(
            f"Labels go from {labels.min()} to {labels.max()}, the model knows {num_labels} classes.",
            mend=f"Use class ids from 0 to {num_labels - 1}, or the class names of config.json.",
        )
    return labels


def score_classes(reference: Outputs, answers: Outputs, labels: Array | None) -> list[Measurement]:
    """Agreement with the baseline; with labels also accuracy, and quality relative to the baseline's.

    Without labels quality is the agreement.
    """
    expected, given = reference[LOGITS].argmax(axis=1), answers[LOGITS].argmax(axis=1)
    agreement = (expected == given).astype(np.float64)
    scores = [mean_of(AGREEMENT, agreement)]
    right = None if labels is None else np.stack([given == labels, expected == labels], axis=1).astype(np.float64)
    if right is None:
        return [*scores, mean_of(QUALITY, agreement)]
    scores.append(mean_of(ACCURACY, right[:, 0]))
    if not right[:, 1].any():
        raise StageError(
            "The baseline gets no label right.", mend="Check that the dataset's labels are this model's class ids."
        )
    return [*scores, measured(QUALITY, right, _retained)]


def _retained(sums: Array) -> Array:
    """Right answers per right answer of the baseline; a resample without any counts as one of it."""
    ratio: Array = sums[:, 0] / np.maximum(sums[:, 1], 1)
    return ratio


def _looked_up(directory: Path, names: Array) -> Array:
    file = directory / "config.json"
    known = json.loads(file.read_text(encoding="utf-8")).get("id2label", {}) if file.is_file() else {}
    ids = {str(name).casefold(): int(number) for number, name in known.items()}
    unknown = sorted({str(name) for name in names if str(name).casefold() not in ids})
    if unknown:
        raise StageError(
            f"The model has no class called {unknown[0]}.", mend=f"Its classes: {', '.join(list(ids)[:20]) or 'unnamed'}."
        )
    return np.array([ids[str(name).casefold()] for name in names], dtype=np.int64)
