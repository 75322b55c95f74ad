"""Sentences of random words: what a corpus of one kind cannot teach.

A student that learns from documentation alone becomes better at documentation and hardly
at anything else. Its teacher can answer any text, so a part of the sentences keep their
length and become words drawn from the model's own vocabulary, all of it equally likely
(Krishna et al., arXiv:1910.12366, copy whole BERTs by such queries; TinyBERT,
arXiv:1909.10351, replaces some words of each sentence by likely ones).
"""

from __future__ import annotations

import numpy as np
from tokenizers import Encoding, Tokenizer

from engine.domain.ports import Array

_BEGINNINGS = ("Ġ", "▁")
"""How byte-level and SentencePiece vocabularies mark a piece that begins a word; others mark the rest of it."""


def words_of(tokenizer: Tokenizer) -> Array:
    """Ids, rising, of the vocabulary's pieces that are whole words or begin one."""
    pieces = tokenizer.get_vocab(with_added_tokens=False)
    begun = [place for piece, place in pieces.items() if piece.startswith(_BEGINNINGS) and piece[1:].isalpha()]
    return np.array(sorted(begun or [place for piece, place in pieces.items() if piece.isalpha()]), dtype=np.int64)


def with_random_words(row: Encoding, words: Array, rng: np.random.Generator) -> Array:
    """The row's ids, (tokens,), each but the special ones replaced by one of `words`."""
    return np.where(row.special_tokens_mask, row.ids, rng.choice(words, len(row.ids)))
