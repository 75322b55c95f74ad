"""The numbers, against independent calculations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from transformers import ConvNextImageProcessorPil, ViTImageProcessorPil

from benchmarks.models import resnet18_digits
from engine.data.datasets import parse_dataset
from engine.data.items import Items
from engine.data.probes import probe_images
from engine.domain.errors import StageError
from engine.domain.metrics import ACCURACY, COSINE, Measurement
from engine.domain.workload import Workload
from engine.tasks.base import TaskBatch, filled_rows, gather
from engine.tasks.causal_lm import CausalLM
from engine.tasks.classes import LOGITS, class_ids, macro_f1, probability_overlap
from engine.tasks.image_classifier import ImageClassifier
from engine.tasks.images import Preprocessing
from engine.tasks.intervals import largest_of, mean_of
from engine.tasks.tensors import MOST_VALUES, Tensors
from engine.tasks.text_classifier import TextClassifier
from engine.tasks.text_encoder import TextEncoder, cosines, pooled, pooling_of, rank_correlation
from engine.tasks.tokenizing import tokenizer_of
from tests import models
from tests.engine.tasks.conftest import Answers, Load
from tests.models import tiny_card

RNG = np.random.default_rng(11)


def by_name(measurements: list[Measurement]) -> dict[str, Measurement]:
    return {m.name: m for m in measurements}


def test_perplexity_is_torchs_cross_entropy_over_all_next_tokens(load: Load, answers: Answers, tmp_path: Path) -> None:
    directory = models.tiny_llama(tmp_path)
    card, module, task = tiny_card(directory), load(directory), CausalLM()
    texts = Items(texts=tuple(f"Line {i} of a short story." for i in range(9)))
    batches = task.batches(card, directory, Workload(batch_size=4, sequence_length=16), texts)
    answered = answers(task, module, batches)
    ids = torch.tensor(tokenizer_of(directory).encode("\n".join(texts.texts)).ids)
    losses = [
        torch.nn.functional.cross_entropy(module(piece[None])[0][0, :-1], piece[1:], reduction="none")
        for piece in ids.split(16)
    ]
    expected = torch.cat(losses)
    assert answered["real"].sum() == len(expected)
    np.testing.assert_allclose(answered["nll"][answered["real"]], expected, rtol=1e-4, atol=1e-4)
    scores = by_name(task.score(answered, answered, None))
    assert scores["perplexity"].median == pytest.approx(float(expected.mean().exp()), rel=1e-4)
    assert scores["token_agreement"].median == 1


def test_packed_sequences_hold_every_token_once(tmp_path: Path) -> None:
    directory = models.tiny_llama(tmp_path)
    texts = Items(texts=tuple("word " * (i % 7 + 1) for i in range(23)))
    batches = CausalLM().batches(tiny_card(directory), directory, Workload(batch_size=3, sequence_length=20), texts)
    packed = np.concatenate([b["input_ids"][b.real] for b in batches])
    assert packed.tolist() == tokenizer_of(directory).encode("\n".join(texts.texts)).ids


def test_the_tokenizers_own_first_token_begins_each_sequence(tmp_path: Path) -> None:
    directory = models.tiny_llama(tmp_path)
    models.byte_tokenizer(brackets=True).save(str(directory / "tokenizer.json"))
    batches = CausalLM().batches(
        tiny_card(directory), directory, Workload(batch_size=2, sequence_length=8), Items(texts=("abcdefg" * 5,))
    )
    assert all((b["input_ids"][:, 0] == 1).all() for b in batches)
    assert 2 not in np.concatenate([b["input_ids"] for b in batches])


def test_quality_of_a_causal_lm_is_the_ratio_of_perplexities() -> None:
    real = np.ones((40, 15), dtype=bool)
    real[-1, 6:] = False
    reference = {"nll": RNG.gamma(2, 1, (40, 15)), "next": RNG.integers(0, 9, (40, 15)), "real": real}
    worse = {**reference, "nll": reference["nll"] * 1.1, "next": np.where(RNG.random((40, 15)) < 0.2, -1, reference["next"])}
    scores = by_name(CausalLM().score(reference, worse, None))
    before, after = (np.exp(answer["nll"][real].mean()) for answer in (reference, worse))
    assert scores["perplexity"].median == pytest.approx(after)
    assert scores["quality"].median == pytest.approx(before / after)
    assert scores["token_agreement"].median == pytest.approx((worse["next"] == reference["next"])[real].mean())
    low, high = scores["quality"].ci95 or (0, 0)
    assert low < before / after < high
    assert high - low < 0.1, "resampled in pairs, the interval of the ratio is narrower than that of a perplexity"


def test_a_causal_lm_needs_two_tokens_to_be_scored(tmp_path: Path) -> None:
    directory = models.tiny_llama(tmp_path)
    with pytest.raises(StageError, match="nothing to score"):
        CausalLM().batches(tiny_card(directory), directory, Workload(sequence_length=1), Items(texts=("abc",)))


@given(arrays.arrays(np.float32, (5, 4), elements=st.floats(-10, 10, width=32)))
def test_cosines_stay_within_bounds_and_are_one_with_themselves(a: np.ndarray) -> None:
    assert np.allclose(cosines(a, a), 1)
    other = cosines(a, np.roll(a, 1, axis=0))
    assert ((other >= -1) & (other <= 1)).all()


@pytest.mark.parametrize(("mode", "expected"), [("mean", [2, 3]), ("max", [3, 4]), ("cls", [1, 2])])
def test_pooling_ignores_masked_tokens(mode: str, expected: list[float]) -> None:
    tokens = np.array([[[1, 2], [3, 4], [99, 99]]], dtype=np.float32)
    assert pooled(tokens, np.array([[1, 1, 0]]), mode).tolist() == [expected]


def test_pooling_comes_from_the_sentence_transformers_files(tmp_path: Path) -> None:
    assert pooling_of(tmp_path) == "mean"
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    assert pooling_of(tmp_path) == "cls"


def test_labelled_pairs_give_spearman(tmp_path: Path) -> None:
    embeddings = RNG.normal(size=(60, 8)).astype(np.float32)
    labels = np.round(RNG.random(30) * 5)
    scores = by_name(TextEncoder().score({"embedding": embeddings}, {"embedding": embeddings}, labels))
    expected = scipy.stats.spearmanr(cosines(embeddings[0::2], embeddings[1::2]), labels).statistic
    assert scores["spearman"].median == pytest.approx(expected)
    assert scores["spearman"].samples == 30
    assert scores["quality"].median == pytest.approx(1)


@given(st.lists(st.integers(0, 4), min_size=3, max_size=30).filter(lambda v: len(set(v)) > 1))
@settings(max_examples=8, deadline=None)
def test_spearman_agrees_with_scipy_on_ties(values: list[int]) -> None:
    similarity = np.sin(np.arange(len(values)) * 2.0)
    expected = scipy.stats.spearmanr(similarity, values).statistic
    assert rank_correlation(similarity, np.array(values)).median == pytest.approx(expected)


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    values = RNG.gamma(2, 1, 200)
    ours = mean_of(COSINE, values)
    theirs = scipy.stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    assert ours.median == pytest.approx(values.mean())
    assert ours.ci95 == pytest.approx((theirs.low, theirs.high), rel=0.02)
    assert mean_of(COSINE, values) == ours, "the same numbers give the same interval"
    assert mean_of(COSINE, values[:1]).ci95 is None


def test_accuracy_and_quality_of_a_labelled_classifier() -> None:
    labels = RNG.integers(0, 3, 200)
    reference, given_logits = np.eye(3)[labels], np.eye(3)[labels]
    reference[:40] = np.eye(3)[(labels[:40] + 1) % 3]
    given_logits[:60] = np.eye(3)[(labels[:60] + 1) % 3]
    scores = by_name(TextClassifier().score({LOGITS: reference}, {LOGITS: given_logits}, labels))
    assert scores["accuracy"].median == pytest.approx(0.7)
    assert scores["agreement"].median == pytest.approx(0.9)
    assert scores["quality"].median == pytest.approx(0.7 / 0.8)
    low, high = scores["quality"].ci95 or (0, 0)
    assert 0.7 < low < 0.875 < high < 1


def test_labels_that_are_never_right_are_refused() -> None:
    logits = {LOGITS: np.eye(3)[np.zeros(20, int)]}
    with pytest.raises(StageError, match="no label right"):
        TextClassifier().score(logits, logits, np.ones(20, int))


def test_class_names_are_looked_up(tmp_path: Path) -> None:
    directory = models.tiny_bert_classifier(tmp_path)
    config = json.loads((directory / "config.json").read_text()) | {"id2label": {"0": "Bad", "1": "Good", "2": "Odd"}}
    (directory / "config.json").write_text(json.dumps(config))
    card, task = tiny_card(directory), TextClassifier()
    named = Items(texts=("a", "b", "c"), labels=np.array(["good", "Bad", "ODD"]))
    assert task.labels(card, directory, named).tolist() == [1, 0, 2]
    with pytest.raises(StageError, match=r"no class called fine.*bad, good, odd"):
        task.labels(card, directory, Items(texts=("a",), labels=np.array(["fine"])))
    with pytest.raises(StageError, match="from 0 to 3, the model knows 3"):
        task.labels(card, directory, Items(texts=("a", "b"), labels=np.array([0, 3])))
    assert task.labels(card, directory, Items(texts=("a",))) is None


def test_macro_f1_agrees_with_sklearn_and_has_an_interval() -> None:
    from sklearn.metrics import f1_score

    labels, predicted = RNG.integers(0, 5, 300), RNG.integers(0, 4, 300)
    ours = macro_f1(predicted, labels)
    assert ours.median == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert ours.ci95 is not None and ours.ci95[0] < ours.median < ours.ci95[1]


def test_where_all_answers_are_one_class_agreement_is_not_quality() -> None:
    reference = np.tile([4.0, 0.0, 0.0], (50, 1))
    damaged = np.tile([0.5, 0.0, 0.0], (50, 1))
    scores = by_name(TextClassifier().score({LOGITS: reference}, {LOGITS: damaged}, None))
    assert scores["agreement"].median == 1.0
    assert scores["quality"].median == scores["probability_overlap"].median < 0.6
    assert by_name(TextClassifier().score({LOGITS: reference}, {LOGITS: reference}, None))["quality"].median == 1.0


def test_probability_overlap_is_one_minus_total_variation() -> None:
    a, b = RNG.normal(size=(20, 4)), RNG.normal(size=(20, 4))
    p, q = scipy.special.softmax(a, axis=1), scipy.special.softmax(b, axis=1)
    assert probability_overlap(a, b) == pytest.approx(np.minimum(p, q).sum(axis=1))


def test_one_output_is_a_regression() -> None:
    batch = TaskBatch({}, np.ones(40, bool))
    truth = RNG.normal(size=40)
    reference = TextClassifier().answer({"logits": truth[:, None] + 0.1}, batch)
    worse = {LOGITS: reference[LOGITS] + np.where(np.arange(40) % 2, 0.3, -0.3)[:, None]}
    alone = by_name(TextClassifier().score(reference, worse, None))
    assert alone["quality"].median == pytest.approx(1 - 0.3**2 / np.var(truth), rel=1e-3)
    assert alone["max_deviation"].median == pytest.approx(0.3, rel=1e-4)
    assert "agreement" not in alone
    labelled = by_name(TextClassifier().score(reference, worse, truth))
    # errors of 0.4 and 0.2 in turn against 0.1
    assert labelled["regression_error"].median == pytest.approx(0.3, rel=1e-4)
    assert labelled["quality"].median == pytest.approx(1 / 3, rel=1e-3)
    assert all(m.ci95 is not None for m in labelled.values())
    for labels in (None, truth):
        assert by_name(TextClassifier().score(reference, reference, labels))["quality"].median == 1.0


def test_values_that_never_change_are_kept_only_by_equal_ones() -> None:
    constant, zero = {LOGITS: np.full((9, 1), 2.0)}, {LOGITS: np.zeros((9, 1))}
    assert by_name(TextClassifier().score(constant, constant, None))["quality"].median == 1.0
    assert by_name(TextClassifier().score(constant, zero, None))["quality"].median == 0.0


def test_labels_of_a_regression_are_numbers(tmp_path: Path) -> None:
    assert class_ids(tmp_path, Items(texts=("a", "b"), labels=np.array(["0.5", "-2"])), 1).tolist() == [0.5, -2.0]  # type: ignore[union-attr]
    with pytest.raises(StageError, match="labels are names"):
        class_ids(tmp_path, Items(texts=("a",), labels=np.array(["good"])), 1)


def test_labelled_pairs_judge_quality_by_the_correlation_that_is_kept() -> None:
    rng = np.random.default_rng(7)
    embeddings = rng.normal(size=(400, 8)).astype(np.float32)
    labels = cosines(embeddings[0::2], embeddings[1::2])
    noisy = embeddings + rng.normal(size=embeddings.shape).astype(np.float32)
    scores = by_name(TextEncoder().score({"embedding": embeddings}, {"embedding": noisy}, labels))
    assert scores["quality"].median == pytest.approx(scores["spearman"].median)
    low, high = scores["quality"].ci95 or (0, 0)
    assert low < scores["quality"].median < high < 1
    unrelated = by_name(TextEncoder().score({"embedding": embeddings}, {"embedding": noisy}, np.tile([0.0, 1.0], 100)))
    assert unrelated["quality"].median == pytest.approx(unrelated["cosine"].median)


def test_the_largest_deviation_has_an_interval_that_ends_at_what_was_seen() -> None:
    values = RNG.gamma(2, 1, 200)
    ours = largest_of(COSINE, values)
    assert ours.median == values.max()
    assert ours.ci95 is not None and ours.ci95[0] <= ours.ci95[1] == values.max()


def test_tensors_compare_all_outputs_of_an_item() -> None:
    task, batch = Tensors(), TaskBatch({}, np.ones(12, bool))
    outputs = {"boxes": RNG.normal(size=(12, 100, 100)), "scores": RNG.normal(size=(12, 3))}
    reference = task.answer(outputs, batch)
    assert reference["boxes"].shape == (12, MOST_VALUES)
    answers = {**reference, "scores": reference["scores"] + np.float32(0.5)}
    scores = by_name(task.score(reference, answers, None))
    assert scores["max_deviation"].median == pytest.approx(0.5, abs=1e-6)
    size = sum(np.abs(array).sum() for array in reference.values())
    assert scores["mean_deviation"].median == pytest.approx(12 * 3 * 0.5 / size, rel=1e-5)
    assert 0.99 < scores["quality"].median < 1


def test_tensors_need_a_batch_axis() -> None:
    with pytest.raises(StageError, match="no batch axis"):
        Tensors().answer({"y": np.zeros(3)}, TaskBatch({}, np.ones(4, bool)))


@given(st.integers(1, 40), st.integers(1, 12))
def test_filled_rows_cover_each_item_once_and_fill_with_their_own(count: int, size: int) -> None:
    rows = list(filled_rows(count, size))
    assert np.concatenate([places[real] for places, real in rows]).tolist() == list(range(count))
    for places, real in rows:
        assert len(places) == size
        assert set(places) <= set(places[real])


def test_answers_of_batches_are_gathered_in_order() -> None:
    assert gather([{"a": np.array([1])}, {"a": np.array([2, 3])}])["a"].tolist() == [1, 2, 3]


def test_a_trained_classifier_is_scored_as_it_was_when_trained(load: Load, answers: Answers, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    trained = resnet18_digits(tmp_path, channels=(8, 16, 32, 64), blocks=1, image_size=32, epochs=4)
    assert 0.6 < trained.accuracy < 1
    card, task, items = tiny_card(trained.model), ImageClassifier(), parse_dataset(trained.test)
    batches = task.batches(card, trained.model, Workload(batch_size=64), items)
    answered = answers(task, load(trained.model), batches)
    scores = by_name(task.score(answered, answered, task.labels(card, trained.model, items)))
    assert scores[ACCURACY.name].median == pytest.approx(trained.accuracy, abs=0.003)
    assert scores["quality"].median == 1


def test_preprocessing_does_what_the_models_own_processor_does(tmp_path: Path) -> None:
    photographs = probe_images("scored").arrays["images"][:6, :, :160]
    vit = ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4])
    resnet = ConvNextImageProcessorPil(size={"shortest_edge": 48}, crop_pct=0.875)
    deit = ViTImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}, do_center_crop=True, do_normalize=False
    )
    for processor, side in ((vit, 32), (resnet, 48), (deit, 56)):
        processor.save_pretrained(tmp_path)
        expected = processor(list(photographs), return_tensors="np")["pixel_values"]
        found = Preprocessing.of(tmp_path)
        assert found.size == side
        pixels = found.pixels(photographs, side, side, 3)
        assert pixels.shape == expected.shape
        np.testing.assert_allclose(pixels, expected, atol=1e-5)
