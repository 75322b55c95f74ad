"""What a student learns from: given texts as they are, added sentences in part as random words, nothing changed that judges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from engine.data.probes import probe_texts
from engine.domain.ports import Material
from engine.tasks.tokenizing import tokenizer_of
from engine.training import lessons
from engine.training.lessons import Lessons, lessons_for
from engine.training.wordlists import with_random_words, words_of
from tests.models import byte_tokenizer, tiny_bert, tiny_card, tiny_llama

ADDED = probe_texts("calibration").texts[100:]
GIVEN = probe_texts("calibration").texts[:40]


@pytest.fixture
def sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "documentation_sentences", lambda most, without: ADDED[:most])


def rows_of(found: Lessons, part: str) -> set[tuple[int, ...]]:
    """Each row's ids without padding."""
    rows: set[tuple[int, ...]] = set()
    for batch in getattr(found, part):
        rows |= {tuple(ids[mask.bool()].tolist()) for ids, mask in zip(batch["input_ids"], batch["mask"], strict=True)}
    return rows


@pytest.mark.usefixtures("sentences")
def test_two_of_three_added_sentences_become_random_words(tmp_path: Path) -> None:
    directory = tiny_bert(tmp_path)
    found = lessons_for(tiny_card(directory), directory, Material(texts=GIVEN), batch_size=4, length=512, extra=100)
    tokenizer = tokenizer_of(directory)
    given_rows, added = ({tuple(tokenizer.encode(text).ids) for text in texts} for texts in (GIVEN, ADDED))
    train, held = rows_of(found, "train"), rows_of(found, "held")
    strange = train - given_rows - added
    assert held <= given_rows | added
    assert given_rows <= train | held
    assert len(strange) == found.sources["training_sentences_of_random_words"]
    assert len(strange) == pytest.approx(2 * len(train & added), abs=2)
    assert found.sources["held_out"] == len(held)


@pytest.mark.usefixtures("sentences")
def test_a_causal_lm_reads_its_texts_as_they_are(tmp_path: Path) -> None:
    directory = tiny_llama(tmp_path)
    found = lessons_for(tiny_card(directory), directory, Material(texts=GIVEN), batch_size=4, length=32, extra=100)
    text = tokenizer_of(directory).encode("\n".join((*GIVEN, *ADDED)), add_special_tokens=False).ids
    whole = [tuple(text[start : start + 32]) for start in range(0, len(text) - 31, 32)]
    assert rows_of(found, "train") | rows_of(found, "held") == set(whole)


@given(st.text(min_size=1, max_size=80), st.integers(0, 9))
def test_only_words_are_replaced_by_words(text: str, seed: int) -> None:
    tokenizer = byte_tokenizer(brackets=True)
    row, words = tokenizer.encode(text), words_of(tokenizer)
    changed = with_random_words(row, words, np.random.default_rng(seed))
    special = np.array(row.special_tokens_mask, dtype=bool)
    assert len(changed) == len(row.ids)
    assert np.array_equal(changed[special], np.array(row.ids)[special])
    assert np.isin(changed[~special], words).all()


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["[CLS]", "the", "##ing", "7", "rain"], ["the", "rain"]),
        (["<s>", "Ġthe", "ing", "Ġ", "Ġ7"], ["Ġthe"]),
        (["<s>", "▁the", "ing", "▁", "▁7"], ["▁the"]),
        (["[CLS]", "7"], []),
    ],
)  # fmt: skip
def test_words_are_whole_or_begin_one(pieces: list[str], expected: list[str]) -> None:
    tokenizer = Tokenizer(models.WordLevel({piece: place for place, piece in enumerate(pieces)}, pieces[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert [pieces[i] for i in words_of(tokenizer)] == expected
