"""How much a model reads and computes in one call, by its card: what its latency can be held against. Torch-free."""

from __future__ import annotations

from engine.domain.artifact import ModelCard, TaskId
from engine.domain.workload import Workload

_CACHE_BYTES = 4
"""Of one number in the KV cache of the uncompressed model (fp32)."""


def passes(card: ModelCard, workload: Workload) -> int:
    """How often one call reads the weights: once, or once a new token."""
    return workload.new_tokens if card.task is TaskId.CAUSAL_LM else 1


def weight_bytes(card: ModelCard, size_bytes: int) -> int:
    """Of a lowered model's `size_bytes`, what one pass reads.

    Only the rows that are looked up are read of an embedding table; a causal LM whose head
    is its embedding table reads it whole for the logits.
    """
    if not card.parameters or not card.vocab_size:
        return size_bytes
    tables = 0 if card.task is TaskId.CAUSAL_LM and is_tied(card) else 1
    return round(size_bytes * max(0.0, 1 - tables * _table(card) / card.parameters))


def decode_bytes(card: ModelCard, workload: Workload, size_bytes: int) -> float:
    """What a causal LM reads to make one more token: its weights and, in the middle of the generation, its cache."""
    context = workload.sequence_length + workload.new_tokens / 2
    return weight_bytes(card, size_bytes) + workload.batch_size * context * cache_bytes_per_token(card)


def cache_bytes_per_token(card: ModelCard) -> int:
    """Keys and values of all layers for one position of one sequence, in fp32."""
    return 2 * card.num_layers * (card.num_kv_heads or card.num_heads) * card.head_dim * _CACHE_BYTES


def prefill_flops(card: ModelCard, workload: Workload) -> float:
    """Floating-point operations from prompt to first token: a multiplication and an addition a weight and token.

    The head is applied to the last position only; attention's two products are causal, so
    half of them are needed.
    """
    tokens, batch = workload.sequence_length, workload.batch_size
    attention = 2.0 * card.num_layers * card.num_heads * card.head_dim * tokens**2
    return batch * (2.0 * body_parameters(card) * tokens + 2.0 * _table(card) + attention)


def body_parameters(card: ModelCard) -> int:
    """Weights that every token passes: all but the embedding table and the head."""
    return card.parameters - (1 if is_tied(card) else 2) * _table(card)


def is_tied(card: ModelCard) -> bool:
    """Whether a causal LM's head is its embedding table, judged by what its layers leave of its parameters."""
    heads = card.num_heads * card.head_dim
    attention = 2 * card.hidden_size * (heads + (card.num_kv_heads or card.num_heads) * card.head_dim)
    rest = card.parameters - card.num_layers * (attention + 3 * card.hidden_size * card.intermediate_size)
    return abs(rest - _table(card)) <= abs(rest - 2 * _table(card))


def _table(card: ModelCard) -> int:
    return card.vocab_size * card.hidden_size
