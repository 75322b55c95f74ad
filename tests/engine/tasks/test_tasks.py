"""What holds for every task, on tiny models that really answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data.items import IMAGES, Items
from engine.data.parts import choose_parts
from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId, TensorSpec
from engine.domain.errors import StageError
from engine.domain.metrics import METRICS
from engine.domain.workload import Workload
from engine.tasks.base import gather
from engine.tasks.registry import TASKS, task_of
from tests import models
from tests.engine.tasks.conftest import Answers, Load
from tests.models import tiny_card

Factory = Callable[[Path], Path]
TINY: list[Factory] = [
    models.tiny_bert, models.tiny_bert_classifier, models.tiny_llama, models.tiny_resnet, models.tiny_vit,
]  # fmt: skip
WORKLOAD = Workload(batch_size=6, sequence_length=24, new_tokens=4)
TEXTS = tuple(f"Sentence number {i} speaks of {'birds ' * (i % 5)}and of little else." for i in range(20))


def few(card: ModelCard) -> Items:
    if card.task.takes_text:
        return Items(texts=TEXTS)
    return Items(arrays={IMAGES: choose_parts(card).scored.arrays[IMAGES][:20]})


def test_every_task_is_there_once() -> None:
    assert {task.id for task in TASKS} == set(TaskId)
    assert len(TASKS) == len(TaskId)
    assert all(metric.name in METRICS for task in TASKS for metric in task.metrics)


@pytest.mark.parametrize("factory", TINY)
def test_every_batch_has_the_workloads_shape(factory: Factory, tmp_path: Path) -> None:
    directory = factory(tmp_path)
    card = tiny_card(directory)
    task = task_of(card)
    timed = task.timed_batch(card, directory, WORKLOAD, few(card))
    batches = task.batches(card, directory, WORKLOAD, few(card))
    assert list(timed) == [spec.name for spec in card.inputs]
    assert timed.real.all()
    for batch in batches:
        assert {n: (a.shape, a.dtype) for n, a in batch.items()} == {n: (a.shape, a.dtype) for n, a in timed.items()}
    if card.task.takes_text:
        assert timed["input_ids"].shape == (6, 24)
        assert (timed["input_ids"] != 0).all(), "a timed text is never padded"
    else:
        assert timed["pixel_values"].shape == (6, 3, models.IMAGE_SIZE, models.IMAGE_SIZE)


@pytest.mark.parametrize("factory", TINY)
def test_the_baseline_retains_all_and_a_changed_model_less(
    factory: Factory, load: Load, answers: Answers, tmp_path: Path
) -> None:
    directory = factory(tmp_path)
    card, module = tiny_card(directory), load(directory)
    task = task_of(card)
    batches = task.batches(card, directory, WORKLOAD, few(card))
    reference = answers(task, module, batches)
    own = {m.name: m for m in task.score(reference, reference, None)}
    assert own["quality"].median == 1 and own["quality"].ci95 == (1, 1)
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter += parameter.std(correction=0) * torch.randn(parameter.shape, generator=generator)
    changed = {m.name: m for m in task.score(reference, answers(task, module, batches), None)}
    assert changed["quality"].median < 0.95
    assert changed.keys() == own.keys()
    for measurement in changed.values():
        assert measurement.unit == METRICS[measurement.name].unit
        assert measurement.ci95 is not None
        assert measurement.ci95[0] <= measurement.median <= measurement.ci95[1]


@pytest.mark.parametrize("factory", [models.tiny_bert, models.tiny_bert_classifier, models.tiny_resnet])
def test_filling_and_batch_size_do_not_change_the_answers(
    factory: Factory, load: Load, answers: Answers, tmp_path: Path
) -> None:
    directory = factory(tmp_path)
    card, module = tiny_card(directory), load(directory)
    task = task_of(card)
    found = [
        answers(task, module, task.batches(card, directory, replace(WORKLOAD, batch_size=size), few(card)))
        for size in (1, 7, 64)
    ]
    for name in found[0]:
        assert len(found[0][name]) == 20
        np.testing.assert_allclose(found[1][name], found[0][name], atol=2e-5)
        np.testing.assert_allclose(found[2][name], found[0][name], atol=2e-5)


def test_padding_does_not_change_an_embedding(load: Load, answers: Answers, tmp_path: Path) -> None:
    directory = models.tiny_bert(tmp_path)
    card, module = tiny_card(directory), load(directory)
    task = task_of(card)
    short, long = (
        answers(task, module, task.batches(card, directory, Workload(sequence_length=length), Items(texts=TEXTS)))
        for length in (96, 160)
    )
    np.testing.assert_allclose(short["embedding"], long["embedding"], atol=1e-5)


@pytest.mark.parametrize("factory", [models.tiny_bert, models.tiny_bert_classifier, models.tiny_llama])
def test_more_tokens_than_the_model_takes_are_refused(factory: Factory, tmp_path: Path) -> None:
    directory = factory(tmp_path)
    card = tiny_card(directory)
    task = task_of(card)
    for ask in (task.timed_batch, task.batches):
        with pytest.raises(StageError, match="at most 512 tokens"):
            ask(card, directory, Workload(sequence_length=513), Items(texts=TEXTS))


def test_a_generation_must_fit_behind_its_prompt(tmp_path: Path) -> None:
    directory = models.tiny_llama(tmp_path)
    card = tiny_card(directory)
    workload = Workload(sequence_length=500, new_tokens=32)
    with pytest.raises(StageError, match="at most 512 tokens"):
        task_of(card).timed_batch(card, directory, workload, Items(texts=TEXTS))
    assert task_of(card).batches(card, directory, workload, Items(texts=TEXTS))


def test_without_a_tokenizer_it_says_what_to_upload(tmp_path: Path) -> None:
    directory = models.tiny_bert(tmp_path)
    (directory / "tokenizer.json").unlink()
    card = tiny_card(directory)
    with pytest.raises(StageError, match=r"no tokenizer.*Upload tokenizer\.json"):
        task_of(card).timed_batch(card, directory, WORKLOAD, Items(texts=TEXTS))


def test_a_broken_tokenizer_is_named(tmp_path: Path) -> None:
    directory = models.tiny_bert(tmp_path)
    (directory / "tokenizer.json").write_text("{")
    card = tiny_card(directory)
    with pytest.raises(StageError, match="tokenizer does not load"):
        task_of(card).timed_batch(card, directory, WORKLOAD, Items(texts=TEXTS))


def test_an_older_vocabulary_is_converted(tmp_path: Path) -> None:
    directory = models.tiny_bert(tmp_path)
    (directory / "tokenizer.json").unlink()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sentence", "number", "speaks", "of", "and"]
    (directory / "vocab.txt").write_text("\n".join(words))
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "pad_token": "[PAD]"}')
    card = tiny_card(directory)
    batch = task_of(card).timed_batch(card, directory, WORKLOAD, Items(texts=TEXTS))
    assert batch["input_ids"][0, :3].tolist() == [2, 5, 6]


def test_timed_texts_repeat_when_there_are_few(tmp_path: Path) -> None:
    directory = models.tiny_bert(tmp_path)
    card = tiny_card(directory)
    batch = task_of(card).timed_batch(card, directory, Workload(batch_size=3, sequence_length=400), Items(texts=("ab", "cd")))
    assert batch["input_ids"].shape == (3, 400)
    assert (batch["attention_mask"] == 1).all()
    assert (batch["input_ids"][:, 0] == 1).all() and (batch["input_ids"][:, -1] == 2).all()


def test_texts_that_have_no_tokens_are_refused(tmp_path: Path) -> None:
    directory = models.tiny_bert(tmp_path)
    card = tiny_card(directory)
    with pytest.raises(StageError, match="no tokens"):
        task_of(card).timed_batch(card, directory, WORKLOAD, Items(texts=("",)))


def test_an_onnx_encoder_gets_the_inputs_its_graph_names(tmp_path: Path) -> None:
    directory = models.tiny_bert(tmp_path)
    shape = ("batch", "sequence")
    inputs = tuple(TensorSpec(n, "int32", shape) for n in ("token_type_ids", "input_ids", "attention_mask"))
    outputs = (TensorSpec("sentence_embedding", "float32", ("batch", 32)),)
    card = ModelCard(ArtifactFormat.ONNX, TaskId.TEXT_ENCODER, "main", 0, "float32", inputs, outputs)
    task = task_of(card)
    batch = task.batches(card, directory, WORKLOAD, Items(texts=TEXTS))[-1]
    assert list(batch) == ["token_type_ids", "input_ids", "attention_mask"]
    assert {a.dtype for a in batch.values()} == {np.dtype("int32")}
    embedding = np.arange(6 * 32, dtype=np.float32).reshape(6, 32)
    kept = task.answer({"sentence_embedding": embedding}, batch)["embedding"]
    np.testing.assert_array_equal(kept, embedding[:2])


def test_a_graph_of_fixed_shape_wants_a_workload_of_that_shape(tmp_path: Path) -> None:
    spec = TensorSpec("image", "float32", (1, 3, 48, 64))
    card = ModelCard(ArtifactFormat.ONNX, TaskId.IMAGE_CLASSIFIER, "main", 0, "float32", (spec,))
    images = Items(arrays={IMAGES: np.zeros((8, 10, 10, 3), np.uint8)})
    task = task_of(card)
    assert task.timed_batch(card, tmp_path, Workload(), images)["image"].shape == (1, 3, 48, 64)
    with pytest.raises(StageError, match="the model takes 1 × 3 × 48 × 64"):
        task.timed_batch(card, tmp_path, Workload(batch_size=2), images)


def test_an_input_nobody_knows_is_named(tmp_path: Path) -> None:
    directory = models.tiny_bert(tmp_path)
    card = tiny_card(directory)
    card = replace(card, inputs=(*card.inputs, TensorSpec("bbox", "int64", ("batch", "sequence", 4))))
    with pytest.raises(StageError, match="feed the input bbox"):
        task_of(card).timed_batch(card, directory, WORKLOAD, Items(texts=TEXTS))


def test_tensors_take_arrays_by_name_and_never_random_ones(tmp_path: Path) -> None:
    directory = models.tiny_onnx(tmp_path)
    card = tiny_card(directory)
    task = task_of(card)
    arrays = Items(arrays={"x": np.arange(10 * 16, dtype=np.float64).reshape(10, 16)})
    batches = task.batches(card, directory, Workload(batch_size=4), arrays)
    assert [b["x"].dtype for b in batches] == [np.float32] * 3
    kept = gather([task.answer({"y": b["x"] * 2}, b) for b in batches])
    np.testing.assert_array_equal(kept["y"], arrays.arrays["x"] * 2)
    with pytest.raises(StageError, match=r"Give an \.npz dataset with arrays named x"):
        task.timed_batch(card, directory, Workload(), choose_parts(card).scored)


def test_image_shaped_tensors_are_fed_with_photographs(tmp_path: Path) -> None:
    spec = TensorSpec("x", "float32", ("batch", 3, "height", "width"))
    card = ModelCard(ArtifactFormat.ONNX, TaskId.TENSORS, "detector", 0, "float32", (spec,))
    batch = task_of(card).timed_batch(card, tmp_path, Workload(batch_size=2, image_size=64), choose_parts(card).scored)
    assert batch["x"].shape == (2, 3, 64, 64)
    assert len(np.unique(batch["x"])) > 200


def test_feeding_and_scoring_never_load_torch(tmp_path: Path) -> None:
    directory = models.tiny_bert(tmp_path)
    program = (
        "import sys; from pathlib import Path\n"
        "from engine.data.parts import choose_parts; from engine.tasks.registry import task_of\n"
        "from engine.tasks.tokenizing import padded; from engine.tasks.companions import copy_companions\n"
        f"copy_companions(Path({str(directory)!r}), Path({str(tmp_path / 'to')!r}))\n"
        f"padded(Path({str(tmp_path / 'to')!r}), ['a'], 4)\n"
        "assert not {'torch', 'transformers', 'onnxruntime', 'openvino'} & set(sys.modules)"
    )
    (tmp_path / "to").mkdir()
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
