"""Causal LMs: perplexity on real text and agreement of greedy next tokens.

Texts are packed into sequences of exactly sequence_length tokens without padding (the
tokenizer's own first tokens, such as a BOS, begin each); only what the text leaves over
at the very end is filled up, and the filling, which a causal model cannot see from the
left, is not scored. Whole logits never leave `answer`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.data.items import Items
from engine.domain.artifact import ModelCard, TaskId
from engine.domain.metrics import PERPLEXITY, QUALITY, TOKEN_AGREEMENT, Measurement
from engine.domain.ports import Array, Outputs
from engine.domain.workload import Workload
from engine.tasks.base import TaskBatch, filled_rows, fitted
from engine.tasks.intervals import measured
from engine.tasks.text import check_length, texts_of, timed_texts
from engine.tasks.tokenizing import stream

NLL, NEXT, REAL = "nll", "next", "real"


class CausalLM:
    """Answers, each (sequences, sequence_length − 1): `nll` float32 of the true next token
    in nats, `next` int32 the greedy next token, `real` bool."""

    id = TaskId.CAUSAL_LM
    metrics = (PERPLEXITY, TOKEN_AGREEMENT)

    def timed_batch(self, card: ModelCard, variant_dir: Path, workload: Workload, items: Items) -> TaskBatch:
        """The prompts: batch_size × sequence_length tokens."""
        check_length(card, workload.sequence_length + workload.new_tokens, least=1)
        return timed_texts(card, variant_dir, workload, items)

    def batches(self, card: ModelCard, variant_dir: Path, workload: Workload, items: Items) -> list[TaskBatch]:
        check_length(card, workload.sequence_length, least=2)
        ids, real = _packed(variant_dir, texts_of(items), workload.sequence_length)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": _positions(ids)}
        return [
            TaskBatch(fitted(card, {n: array[rows] for n, array in inputs.items()}), real[rows] & is_real[:, None])
            for rows, is_real in filled_rows(len(ids), workload.batch_size)
        ]

    def answer(self, outputs: Outputs, batch: TaskBatch) -> Outputs:
        logits = outputs["logits"] if "logits" in outputs else next(iter(outputs.values()))
        real = batch.real.any(axis=1)
        targets = batch["input_ids"][real, 1:]
        rows = [_of_sequence(one, expected) for one, expected in zip(logits[real], targets, strict=True)]
        return {
            NLL: np.stack([nll for nll, _ in rows]),
            NEXT: np.stack([greedy for _, greedy in rows]),
            REAL: batch.real[real, 1:],
        }

    def labels(self, card: ModelCard, variant_dir: Path, items: Items) -> Array | None:
        """None: the text itself is what is predicted."""
        return None

    def score(self, reference: Outputs, answers: Outputs, labels: Array | None) -> list[Measurement]:
        """Quality is the baseline's perplexity ÷ this one's; above 1 where the text became likelier."""
        real = answers[REAL].astype(np.float64)
        tokens = real.sum(axis=1)
        nll = (answers[NLL] * real).sum(axis=1, dtype=np.float64)
        expected = (reference[NLL] * real).sum(axis=1, dtype=np.float64)
        same = ((answers[NEXT] == reference[NEXT]) * real).sum(axis=1)
        return [
            measured(PERPLEXITY, np.stack([nll, tokens], axis=1), lambda sums: np.exp(sums[:, 0] / sums[:, 1])),
            measured(TOKEN_AGREEMENT, np.stack([same, tokens], axis=1), lambda sums: sums[:, 0] / sums[:, 1]),
            measured(QUALITY, np.stack([expected - nll, tokens], axis=1), lambda sums: np.exp(sums[:, 0] / sums[:, 1])),
        ]


def _packed(directory: Path, texts: tuple[str, ...], length: int) -> tuple[Array, Array]:
    """(ids int64, real bool), each (sequences, length)."""
    prefix, ids = stream(directory, texts)
    prefix = prefix[: length - 1]
    room = length - len(prefix)
    sequences = -(-len(ids) // room)
    filled = np.resize(ids, sequences * room).reshape(sequences, room)
    real = (np.arange(sequences * room) < len(ids)).reshape(sequences, room)
    if sequences > 1 and real[-1].sum() < 2:
        filled, real = filled[:-1], real[:-1]
    fronts = np.broadcast_to(prefix, (len(filled), len(prefix)))
    return np.concatenate([fronts, filled], axis=1), np.concatenate([np.ones_like(fronts, dtype=bool), real], axis=1)


def _positions(ids: Array) -> Array:
    return np.broadcast_to(np.arange(ids.shape[1], dtype=np.int64), ids.shape)


def _of_sequence(logits: Array, targets: Array) -> tuple[Array, Array]:
    """(nll, greedy next token) of one sequence; a sequence at a time keeps float32 copies of the vocabulary small."""
    scores = logits[:-1].astype(np.float32)
    highest = scores.max(axis=1, keepdims=True)
    total = np.log(np.exp(scores - highest).sum(axis=1)) + highest[:, 0]
    chosen = np.take_along_axis(scores, targets[:, None], axis=1)[:, 0]
    return total - chosen, scores.argmax(axis=1).astype(np.int32)
