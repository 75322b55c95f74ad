"""What is scored never calibrates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from engine.data.items import IMAGES, Items
from engine.data.parts import choose_parts, split, without_overlap
from engine.data.probes import CALIBRATION, SCORED, probe_images, probe_texts
from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId, TensorSpec
from engine.domain.errors import InvalidInput

WORDS = st.sampled_from("abcdefghijklmnop")


def prints(items: Items) -> frozenset[bytes]:
    return frozenset[bytes]().union(*items.fingerprints())


def card(task: TaskId) -> ModelCard:
    return ModelCard(ArtifactFormat.ONNX, task, "main", 0, "float32", (TensorSpec("x", "float32", ("batch", 3)),))


@given(st.lists(st.text("abcdef", min_size=1, max_size=3), min_size=20, max_size=40, unique=True), st.integers(0, 12))
def test_a_split_shares_nothing_and_loses_only_doubles(texts: list[str], doubles: int) -> None:
    texts = texts + texts[:doubles]
    parts = split(Items(texts=tuple(texts), labels=np.arange(len(texts))))
    assert not prints(parts.scored) & prints(parts.calibration)
    assert set(parts.scored.texts) | set(parts.calibration.texts) == set(texts)
    for part in (parts.scored, parts.calibration):
        assert part.labels is not None
        assert [texts[i] for i in part.labels] == list(part.texts)


@given(st.lists(st.tuples(WORDS, WORDS), min_size=8, max_size=30), st.lists(st.tuples(WORDS, WORDS), min_size=8, max_size=30))
def test_pairs_that_share_a_text_are_not_on_both_sides(ours: list[tuple[str, str]], theirs: list[tuple[str, str]]) -> None:
    scored, calibration = Items(pairs=tuple(ours)), Items(pairs=tuple(theirs))
    try:
        parts = without_overlap(scored, calibration)
    except InvalidInput:
        assert all(set(pair) & set(scored.flat_texts) for pair in theirs)
        return
    assert parts.scored == scored
    assert not set(parts.scored.flat_texts) & set(parts.calibration.flat_texts)


def test_a_large_dataset_gives_128_items_to_calibration() -> None:
    parts = split(Items(arrays={"x": np.arange(3000.0).reshape(1000, 3)}))
    assert (len(parts.scored), len(parts.calibration)) == (872, 128)
    # spread over the file, so that a sorted one does not calibrate on a single class
    assert parts.calibration.arrays["x"][:, 0].max() > 2900 and parts.calibration.arrays["x"][:, 0].min() < 100


def test_equal_items_cannot_be_split() -> None:
    with pytest.raises(InvalidInput, match="All items are the same"):
        split(Items(texts=("same",) * 20))


def test_a_calibration_set_that_is_scored_is_refused() -> None:
    texts = Items(texts=tuple("abcdefghij"))
    with pytest.raises(InvalidInput, match="Every calibration item is also scored"):
        choose_parts(card(TaskId.TEXT_ENCODER), texts, texts)


def test_white_space_and_labels_do_not_make_an_item_new() -> None:
    scored = Items(texts=("one  two", "three"), labels=np.array([0, 1]))
    parts = without_overlap(scored, Items(texts=("one two ", "four")))
    assert parts.calibration.texts == ("four",)


def test_items_of_the_wrong_kind_are_refused() -> None:
    texts, images = Items(texts=tuple("abcdefgh")), Items(arrays={IMAGES: np.zeros((8, 2, 2, 3), np.uint8)})
    pairs = Items(pairs=(("a", "b"),) * 8, labels=np.zeros(8))
    with pytest.raises(InvalidInput, match="needs texts"):
        choose_parts(card(TaskId.CAUSAL_LM), images)
    with pytest.raises(InvalidInput, match="needs arrays"):
        choose_parts(card(TaskId.IMAGE_CLASSIFIER), texts)
    with pytest.raises(InvalidInput, match="for text encoders"):
        choose_parts(card(TaskId.TEXT_CLASSIFIER), pairs)
    with pytest.raises(InvalidInput, match="The NPZ lacks x"):
        choose_parts(card(TaskId.TENSORS), Items(arrays={"y": np.zeros((8, 3))}))


@pytest.mark.parametrize("task", list(TaskId))
def test_without_a_dataset_the_built_in_inputs_are_large_and_apart(task: TaskId) -> None:
    parts = choose_parts(card(task))
    assert len(parts.scored) >= 256
    assert len(parts.calibration) >= 128
    assert not prints(parts.scored) & prints(parts.calibration)


def test_built_in_texts_have_enough_tokens(minilm: Path) -> None:
    tokenizer = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    counts = [len(tokenizer.encode(text, add_special_tokens=False)) for text in probe_texts(SCORED).texts]
    assert sum(counts) >= 4096
    assert len(set(probe_texts(SCORED).texts)) == len(counts)


def test_built_in_images_are_photographs() -> None:
    for part in (SCORED, CALIBRATION):
        images = probe_images(part).arrays[IMAGES]
        assert images.shape[1:] == (224, 224, 3) and images.dtype == np.uint8
        assert len(prints(probe_images(part))) == len(images)
        few = images[::8].astype(int)
        neighbours = np.abs(np.diff(few, axis=2)).mean()
        strangers = np.abs(few - np.roll(few, 1, axis=0)).mean()
        assert neighbours < strangers / 3, "neighbouring pixels of a photograph resemble each other"


def test_built_in_inputs_are_always_the_same() -> None:
    assert probe_texts(SCORED).texts[0].startswith("They found Mr. Bennet")
    notice = (Path(__file__).parents[3] / "engine" / "data" / "probes" / "NOTICE.md").read_text()
    for photograph in (Path(__file__).parents[3] / "engine" / "data" / "probes").rglob("*.jpg"):
        assert f"{photograph.parent.name}/{photograph.stem}" in notice, "every photograph's rights are told"
