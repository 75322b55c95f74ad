"""Distillation of each family: the student is smaller, closer to its teacher than it began, and opens again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.data.items import IMAGES
from engine.data.probes import probe_texts
from engine.domain.deployment import Applied, Deployment, Variant
from engine.domain.errors import StageError
from engine.domain.ports import Batch, Context, Material
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.executors.torch_local import EagerExecutor
from engine.surgery.layers import spread_over
from engine.tasks.loading import load_module
from engine.tasks.traceable import Traceable, parameters_of
from engine.techniques.distillation.apply import Distillation
from engine.techniques.distillation.spec import DistillationConfig
from engine.training.distil import Course, distil
from tests.models import (
    IMAGE_SIZE,
    VOCABULARY,
    tiny_bert,
    tiny_bert_classifier,
    tiny_card,
    tiny_llama,
    tiny_resnet,
    tiny_vit,
)

MAKERS: dict[str, Callable[[Path], Path]] = {
    "encoder": tiny_bert, "classifier": tiny_bert_classifier, "llama": tiny_llama, "vit": tiny_vit, "resnet": tiny_resnet,
}  # fmt: skip
QUICK = {"steps": 10, "sentences": 0}
WORKLOAD = Workload(batch_size=2, sequence_length=32)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in MAKERS.items()}


def material(family: str) -> Material:
    """Real sentences, or noise images: enough to see that training trains."""
    rng = np.random.default_rng(0)
    if family in ("vit", "resnet"):
        images = rng.integers(0, 256, (24, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
        return Material(arrays={IMAGES: images}, labels=rng.integers(0, 10, 24))
    texts = probe_texts("calibration").texts[:48]
    labels = rng.integers(0, 3, len(texts)) if family == "classifier" else None
    return Material(texts=texts, labels=labels, scored_texts=probe_texts("scored").texts)


def batch_of(family: str, seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    if family in ("vit", "resnet"):
        return {"pixel_values": rng.normal(size=(2, 3, IMAGE_SIZE, IMAGE_SIZE)).astype(np.float32)}
    ids = rng.integers(4, VOCABULARY, (2, 12))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def taught(
    directory: Path, family: str, scratch: Path, given: Material | None = None, checkpoints: Path | None = None, **knobs: Any
) -> tuple[Applied, Traceable]:
    card, variant = tiny_card(directory), Variant(str(directory))
    scratch.mkdir(exist_ok=True)
    context = Context(
        scratch, [batch_of(family, seed) for seed in range(4)], lambda _: None, 1, variant, given or material(family), checkpoints
    )
    applied = Distillation().apply(Deployment(card, variant, RuntimeId.EAGER, WORKLOAD), DistillationConfig.of(QUICK | knobs), context)
    return applied, load_module(applied.deployment.variant, card)


@pytest.mark.parametrize(
    ("family", "knobs"),
    [
        ("encoder", {"layers": 0.5}),
        ("encoder", {"layers": 0.5, "width": 0.5, "attention_weight": 1.0}),
        ("classifier", {"layers": 0.5}),
        ("llama", {"layers": 0.5, "learning_rate": 0.003}),
        ("vit", {"layers": 0.5, "attention_weight": 1.0}),
        ("resnet", {"width": 0.5}),
    ],
)
def test_a_student_is_smaller_and_learns(family: str, knobs: dict[str, Any], tiny: dict[str, Path], tmp_path: Path) -> None:
    teacher = load_module(Variant(str(tiny[family])), tiny_card(tiny[family]))
    applied, student = taught(tiny[family], family, tmp_path, **knobs)
    facts = applied.facts.facts
    assert facts["parameters_after"] == parameters_of(student) < parameters_of(teacher) == facts["parameters_before"]
    assert facts["macs_after"] < facts["macs_before"]
    assert facts["training_steps"] == QUICK["steps"]
    assert float(facts["held_out_after"]) >= float(facts["held_out_before"])
    if family in ("encoder", "llama"):
        assert float(facts["held_out_after"]) > float(facts["held_out_before"])
    if "layers" in knobs:
        assert (facts["layers_before"], facts["layers_after"]) == (2, 1)
    tensors = [torch.from_numpy(batch_of(family, 9)[name]) for name in student.inputs]
    assert student(*tensors)[0].shape == teacher(*tensors)[0].shape
    assert torch.isfinite(student(*tensors)[0]).all()


def test_a_student_of_a_causal_lm_generates_as_it_computes(tiny: dict[str, Path], tmp_path: Path) -> None:
    _, student = taught(tiny["llama"], "llama", tmp_path, layers=0.5, steps=2)
    ids = torch.arange(5, 13)[None]
    generated = torch.from_numpy(EagerExecutor(student).generate(ids.numpy(), 4).tokens)
    whole = student(torch.cat([ids, generated[:, :-1]], dim=1))[0].argmax(-1)
    assert torch.equal(generated[0], whole[0, 7:])


def test_a_repeated_stage_takes_the_student_that_was_trained(tiny: dict[str, Path], tmp_path: Path) -> None:
    first, one = taught(tiny["encoder"], "encoder", tmp_path / "a", checkpoints=tmp_path / "kept", layers=0.5)
    again, two = taught(tiny["encoder"], "encoder", tmp_path / "b", checkpoints=tmp_path / "kept", layers=0.5)
    assert again.facts.facts == first.facts.facts
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_too_little_to_train_on(tiny: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(StageError, match="Only 3 texts to train on"):
        taught(tiny["encoder"], "encoder", tmp_path, Material(texts=("one", "two", "three")), layers=0.5)
    with pytest.raises(StageError, match="no images"):
        taught(tiny["vit"], "vit", tmp_path, Material(), layers=0.5)


def test_images_of_the_wrong_shape(tiny: dict[str, Path], tmp_path: Path) -> None:
    flat = Material(arrays={"pixel_values": np.zeros((32, IMAGE_SIZE), dtype=np.float32)})
    with pytest.raises(StageError, match="pixel_values is 1 × 32, the model takes"):
        taught(tiny["vit"], "vit", tmp_path, flat, layers=0.5)


def test_a_student_that_does_not_fit_its_teacher(tiny: dict[str, Path], tmp_path: Path) -> None:
    other = tiny_bert_classifier(tmp_path / "five", labels=5)
    student = load_module(Variant(str(other)), tiny_card(other))
    teacher = Variant(str(tiny["classifier"]))
    deployment = Deployment(tiny_card(tiny["classifier"]), teacher, RuntimeId.EAGER, WORKLOAD)
    context = Context(tmp_path, [], lambda _: None, 1, teacher, material("classifier"))
    with pytest.raises(StageError, match=r"does not fit its teacher: its logits are \(1, 5\), the teacher's \(1, 3\)"):
        distil(student, deployment, context, Course(steps=2, sentences=0), title="", start=0.0)


@pytest.mark.parametrize(
    ("count", "kept", "layers"), [(12, 6, (0, 2, 4, 7, 9, 11)), (6, 4, (0, 2, 3, 5)), (6, 3, (0, 2, 5)), (2, 1, (0,))]
)
def test_layers_are_spread_as_distilbert_has_them(count: int, kept: int, layers: tuple[int, ...]) -> None:
    assert spread_over(count, kept) == layers
