"""What the tasks that take padded texts share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.data.items import Items
from engine.domain.artifact import ModelCard
from engine.domain.errors import StageError
from engine.domain.workload import Workload
from engine.tasks.base import TaskBatch, filled_rows, fitted
from engine.tasks.tokenizing import exact, padded


def timed_texts(card: ModelCard, directory: Path, workload: Workload, items: Items) -> TaskBatch:
    """batch_size rows of exactly sequence_length real tokens."""
    check_length(card, workload.sequence_length, least=1)
    texts = texts_of(items)
    encoded = exact(directory, texts, workload.batch_size, workload.sequence_length)
    return TaskBatch(fitted(card, encoded), np.ones(workload.batch_size, dtype=bool), encoded["attention_mask"])


def padded_batches(card: ModelCard, directory: Path, workload: Workload, items: Items) -> list[TaskBatch]:
    """All texts (of pairs: both), cut or padded to sequence_length."""
    check_length(card, workload.sequence_length, least=1)
    encoded = padded(directory, texts_of(items), workload.sequence_length)
    return [
        TaskBatch(fitted(card, {name: array[rows] for name, array in encoded.items()}), real, encoded["attention_mask"][rows])
        for rows, real in filled_rows(len(encoded["input_ids"]), workload.batch_size)
    ]


def check_length(card: ModelCard, length: int, least: int) -> None:
    """Raises StageError when the model cannot take `length` tokens."""
    if card.max_positions and length > card.max_positions:
        raise StageError(
            f"The model takes at most {card.max_positions} tokens.", mend=f"Choose sequence_length up to {card.max_positions}."
        )
    if length < least:
        raise StageError(f"sequence_length={length} leaves nothing to score.", mend=f"Choose at least {least}.")


def texts_of(items: Items) -> tuple[str, ...]:
    """The items' texts. Raises StageError when they hold none."""
    if not items.flat_texts:
        raise StageError("These items hold no texts.", mend="Give a .txt, .csv or .jsonl dataset.")
    return items.flat_texts
