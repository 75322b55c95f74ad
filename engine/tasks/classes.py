"""What text and image classifiers share: logits, class names, agreement and accuracy; regressions among them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from engine.data.items import Items
from engine.domain.errors import StageError
from engine.domain.metrics import (
    ACCURACY,
    AGREEMENT,
    F1,
    MAX_DEVIATION,
    MEAN_DEVIATION,
    PROBABILITY_OVERLAP,
    QUALITY,
    REGRESSION_ERROR,
    Measurement,
)
from engine.domain.ports import Array, Outputs
from engine.tasks.base import TaskBatch
from engine.tasks.intervals import largest_of, mean_of, measured

LOGITS = "logits"


def logits_of(outputs: Outputs, batch: TaskBatch) -> Outputs:
    """`logits` float32 (items, labels) of the real rows; a regression has one label."""
    array = outputs[LOGITS] if LOGITS in outputs else next(iter(outputs.values()))
    if array.ndim != 2:
        raise StageError(
            f"The output has shape {array.shape}; a classifier gives its logits for each item.",
            mend="Upload it as ONNX to treat its outputs as plain tensors.",
        )
    return {LOGITS: array[batch.real].astype(np.float32)}


def class_ids(directory: Path, items: Items, num_labels: int) -> Array | None:
    """Labels as class ids; names are looked up in config.json. Raises StageError for unknown ones.

    A model of one label predicts a value, so its labels are numbers (float64).
    """
    if items.labels is None:
        return None
    if num_labels == 1:
        return _numbers(items.labels)
    labels = items.labels if items.labels.dtype.kind == "i" else _looked_up(directory, items.labels)
    if num_labels and (labels.min() < 0 or labels.max() >= num_labels):
        raise StageError(
            f"Labels go from {labels.min()} to {labels.max()}, the model knows {num_labels} classes.",
            mend=f"Use class ids from 0 to {num_labels - 1}, or the class names of config.json.",
        )
    return labels


def score_classes(reference: Outputs, answers: Outputs, labels: Array | None) -> list[Measurement]:
    """Agreement with the baseline and overlap of the probabilities; with labels also accuracy and F1.

    Quality is, with labels, the accuracy relative to the baseline's; without them the
    agreement. Where the baseline puts all items into one class every answer may agree, so
    quality is the overlap there. One output an item is a regression, see `score_values`.
    """
    expected, given = reference[LOGITS], answers[LOGITS]
    if expected.shape[1] == 1:
        return score_values(expected[:, 0], given[:, 0], labels)
    classes, predicted = expected.argmax(axis=1), given.argmax(axis=1)
    agreement, overlap = (classes == predicted).astype(np.float64), probability_overlap(expected, given)
    scores = [mean_of(AGREEMENT, agreement), mean_of(PROBABILITY_OVERLAP, overlap)]
    if labels is None:
        return [*scores, mean_of(QUALITY, agreement if len(np.unique(classes)) > 1 else overlap)]
    right = np.stack([predicted == labels, classes == labels], axis=1).astype(np.float64)
    if not right[:, 1].any():
        raise StageError(
            "The baseline gets no label right.", mend="Check that the dataset's labels are this model's class ids."
        )
    return [*scores, mean_of(ACCURACY, right[:, 0]), macro_f1(predicted, labels), measured(QUALITY, right, _retained)]


def probability_overlap(expected: Array, given: Array) -> Array:
    """1 minus the total variation distance of the softmax of both, an item each."""
    distance: Array = 0.5 * np.abs(_softmax(expected) - _softmax(given)).sum(axis=1)
    return 1.0 - distance


def macro_f1(predicted: Array, labels: Array) -> Measurement:
    """Mean over the classes that are predicted or labelled of 2 tp / (2 tp + fp + fn)."""
    classes = np.union1d(predicted, labels)[None, :]
    is_given, is_label = predicted[:, None] == classes, labels[:, None] == classes
    twice_hits, counted = 2.0 * (is_given & is_label), is_given.astype(np.float64) + is_label
    count = classes.shape[1]

    def mean_over_classes(sums: Array) -> Array:
        hits, all_ = sums[:, :count], sums[:, count:]
        mean: Array = (hits / np.maximum(all_, 1)).sum(axis=1) / np.maximum((all_ > 0).sum(axis=1), 1)
        return mean

    return measured(F1, np.concatenate([twice_hits, counted], axis=1), mean_over_classes)


def score_values(expected: Array, given: Array, labels: Array | None) -> list[Measurement]:
    """One number an item, as a regression gives it: deviation from the baseline, with labels the mean absolute error.

    Quality is, with labels, the baseline's error ÷ this one's; without them the share of
    the baseline's variance that is kept (R² of the answers as predictions of the baseline's).
    """
    expected, given = expected.astype(np.float64), given.astype(np.float64)
    away = np.abs(given - expected)
    scores = [
        largest_of(MAX_DEVIATION, away), measured(MEAN_DEVIATION, np.stack([away, np.abs(expected)], axis=1), _per_size),
    ]  # fmt: skip
    if labels is None:
        columns = np.stack([away**2, expected, expected**2, np.ones_like(expected)], axis=1)
        return [*scores, measured(QUALITY, columns, _variance_kept)]
    errors = np.stack([np.abs(expected - labels), np.abs(given - labels)], axis=1)
    return [*scores, mean_of(REGRESSION_ERROR, errors[:, 1]), measured(QUALITY, errors, _error_ratio)]


def _error_ratio(sums: Array) -> Array:
    """The baseline's error ÷ this one's; a run without any error keeps all."""
    before, after = sums[:, 0], sums[:, 1]
    ratio: Array = np.where(after > 0, before / np.where(after > 0, after, 1), 1.0)
    return ratio


def _per_size(sums: Array) -> Array:
    ratio: Array = sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], 1)
    return ratio


def _variance_kept(sums: Array) -> Array:
    """1 − Σ(difference²) ÷ Σ(deviation from the mean²), at least 0; a baseline without variance keeps what is equal."""
    squares, total, total_squares, count = sums.T
    variance = total_squares - total**2 / np.maximum(count, 1)
    scale = np.where(variance > 1e-12 * np.maximum(total_squares, 1e-300), variance, total_squares)
    kept: Array = np.clip(1 - squares / np.where(scale > 0, scale, 1), 0, 1)
    return kept


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _retained(sums: Array) -> Array:
    """Right answers per right answer of the baseline; a resample without any counts as one of it."""
    ratio: Array = sums[:, 0] / np.maximum(sums[:, 1], 1)
    return ratio


def _numbers(labels: Array) -> Array:
    try:
        return labels.astype(np.float64)
    except ValueError as error:
        raise StageError("This model predicts a value, but the labels are names.", mend="Give numbers as labels.") from error


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
