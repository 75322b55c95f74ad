"""Variants come back from disk bit for bit, whatever was cut out of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.domain.deployment import Variant
from engine.tasks.loading import load_module, save_variant
from engine.tasks.traceable import Traceable, parameters_of
from tests import models
from tests.models import tiny_card

FACTORIES = [models.tiny_bert, models.tiny_bert_classifier, models.tiny_llama, models.tiny_resnet, models.tiny_vit]


def loaded(directory: Path) -> Traceable:
    return load_module(Variant(str(directory)), tiny_card(directory))


def sample(module: Traceable, batch: int = 2) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(7)
    if module.inputs == ("pixel_values",):
        return (torch.randn(batch, 3, models.IMAGE_SIZE, models.IMAGE_SIZE, generator=generator),)
    ids = torch.randint(4, models.VOCABULARY, (batch, 12), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 9:] = 0
    return (ids, mask)[: len(module.inputs)]


def saved_and_loaded(module: Traceable, attributes: dict, like: Path, target: Path) -> Traceable:
    variant = save_variant(module, target, attributes, Variant(str(like)))
    assert variant.changed
    return load_module(variant, tiny_card(like))


@pytest.mark.parametrize("factory", FACTORIES)
def test_an_unchanged_model_comes_back_bit_for_bit(factory: Callable[[Path], Path], tmp_path: Path) -> None:
    module = loaded(factory(tmp_path / "a"))
    again = saved_and_loaded(module, {}, tmp_path / "a", tmp_path / "b")
    for before, after in zip(module(*sample(module)), again(*sample(module)), strict=True):
        assert torch.equal(before, after)
    assert not module.training and all(not p.requires_grad and p.dtype is torch.float32 for p in again.parameters())
    assert parameters_of(again) == parameters_of(module)


@pytest.mark.parametrize("factory", FACTORIES)
def test_exports_under_torch_export_with_the_cards_input_names(factory: Callable[[Path], Path], tmp_path: Path) -> None:
    module = loaded(factory(tmp_path))
    tensors = sample(module)
    program = torch.export.export(module, tensors)
    assert tuple(program.graph_signature.user_inputs) == module.inputs
    torch.testing.assert_close(program.module()(*tensors), module(*tensors))
