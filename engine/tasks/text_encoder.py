"""Text encoders: a text in, an embedding out; quality is the cosine to the baseline's embedding.

Tokens become one embedding as the model's own sentence-transformers files say
(`1_Pooling/config.json`), else by the mean over the attention mask.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from engine.data.items import Items
from engine.domain.artifact import ModelCard, TaskId
from engine.domain.errors import StageError
from engine.domain.metrics import COSINE, QUALITY, SPEARMAN, Measurement
from engine.domain.ports import Array, Outputs
from engine.domain.workload import Workload
from engine.tasks.base import TaskBatch
from engine.tasks.intervals import mean_of, resampled_places
from engine.tasks.text import padded_batches, timed_texts

EMBEDDING = "embedding"
LEAST_CORRELATION = 0.1
"""Of the baseline with the labels, for what is kept of it to mean something."""


class TextEncoder:
    """Answers: `embedding` float32 (items, hidden)."""

    id = TaskId.TEXT_ENCODER
    metrics = (COSINE, SPEARMAN)

    def timed_batch(self, card: ModelCard, variant_dir: Path, workload: Workload, items: Items) -> TaskBatch:
        return timed_texts(card, variant_dir, workload, items)

    def batches(self, card: ModelCard, variant_dir: Path, workload: Workload, items: Items) -> list[TaskBatch]:
        pooling = pooling_of(variant_dir)
        batches = padded_batches(card, variant_dir, workload, items)
        for batch in batches:
            batch.pooling = pooling
        return batches

    def answer(self, outputs: Outputs, batch: TaskBatch) -> Outputs:
        array = _tokens_or_embedding(outputs)
        if array.ndim == 3:
            assert batch.mask is not None, "a text encoder's batches carry their mask"
            array = pooled(array, batch.mask, batch.pooling)
        return {EMBEDDING: array[batch.real].astype(np.float32)}

    def labels(self, card: ModelCard, variant_dir: Path, items: Items) -> Array | None:
        return items.labels if items.pairs else None

    def score(self, reference: Outputs, answers: Outputs, labels: Array | None) -> list[Measurement]:
        """Quality is the mean cosine; with labelled pairs the Spearman correlation relative to the baseline's.

        A baseline whose own correlation is below 0.1 says nothing of the labels: the cosine stays.
        """
        similarity = cosines(reference[EMBEDDING], answers[EMBEDDING])
        alike = mean_of(COSINE, similarity)
        if labels is None:
            return [alike, mean_of(QUALITY, similarity)]
        given, expected = (cosines(e[0::2], e[1::2]) for e in (answers[EMBEDDING], reference[EMBEDDING]))
        retained = correlation_retained(given, expected, labels)
        return [alike, rank_correlation(given, labels), retained or mean_of(QUALITY, similarity)]


def pooling_of(directory: Path) -> str:
    """`mean`, `cls` or `max`, from the sentence-transformers files; `mean` without them."""
    file = directory / "1_Pooling" / "config.json"
    if not file.is_file():
        return "mean"
    settings = json.loads(file.read_text(encoding="utf-8"))
    for key, name in (("pooling_mode_cls_token", "cls"), ("pooling_mode_max_tokens", "max")):
        if settings.get(key):
            return name
    return "mean"


def pooled(tokens: Array, mask: Array, pooling: str) -> Array:
    """(batch, sequence, hidden) to (batch, hidden) over the tokens that `mask` keeps."""
    if pooling == "cls":
        return tokens[:, 0]
    kept = mask[:, :, None].astype(bool)
    if pooling == "max":
        highest: Array = np.where(kept, tokens, -np.inf).max(axis=1)
        return highest
    mean: Array = np.where(kept, tokens, 0).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)
    return mean


def cosines(a: Array, b: Array) -> Array:
    """Row by row, float64; two zero rows are equal, one zero row is orthogonal."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    similarity: Array = np.where(both_zero, 1.0, (a * b).sum(axis=1) / np.where(norms > 0, norms, 1))
    return np.clip(similarity, -1, 1)


def rank_correlation(similarity: Array, labels: Array) -> Measurement:
    """Spearman's correlation, ties sharing their mean rank, with a bootstrap interval."""
    value = _spearman(similarity[None], labels[None].astype(np.float64))[0]
    places = resampled_places(len(labels), 500)
    drawn = np.concatenate(
        [_spearman(similarity[rows], labels[rows].astype(np.float64)) for rows in np.array_split(places, 50)]
    )
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Measurement(SPEARMAN.name, SPEARMAN.unit, float(value), (float(low), float(high)), len(labels))


def correlation_retained(given: Array, expected: Array, labels: Array) -> Measurement | None:
    """Spearman of the run ÷ Spearman of the baseline, over the same resamples; None where the baseline has none."""
    wanted = labels[None].astype(np.float64)
    before = _spearman(expected[None], wanted)[0]
    if before < LEAST_CORRELATION:
        return None
    value = float(_spearman(given[None], wanted)[0] / before)
    if len(labels) < 2:
        return Measurement(QUALITY.name, QUALITY.unit, value, None, len(labels))
    drawn = []
    for rows in np.array_split(resampled_places(len(labels), 500), 50):
        chosen = labels[rows].astype(np.float64)
        base = _spearman(expected[rows], chosen)
        drawn.append(_spearman(given[rows], chosen)[base >= LEAST_CORRELATION] / base[base >= LEAST_CORRELATION])
    low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5])
    return Measurement(QUALITY.name, QUALITY.unit, value, (float(low), float(high)), len(labels))


def _spearman(a: Array, b: Array) -> Array:
    a, b = _ranks(a), _ranks(b)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    spread = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    correlation: Array = np.where(spread > 0, (a * b).sum(axis=1) / np.where(spread > 0, spread, 1), 0.0)
    return correlation


def _ranks(values: Array) -> Array:
    """Mean ranks of each row."""
    ranks = np.empty(values.shape)
    for row, out in zip(values, ranks, strict=True):
        _, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
        out[:] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


def _tokens_or_embedding(outputs: Outputs) -> Array:
    named = outputs.get("last_hidden_state")
    candidates = [named] if named is not None else sorted(outputs.values(), key=lambda array: -array.ndim)
    if not candidates or candidates[0].ndim not in (2, 3):
        raise StageError("The model gives no token or sentence embeddings.", mend="Export it with last_hidden_state as output.")
    return candidates[0]
