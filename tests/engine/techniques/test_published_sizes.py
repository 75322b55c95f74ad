"""ResNet-18 with half of its channels, against the sizes that torch-pruning publishes for it.

1.822 G multiply-accumulates and 11.690 M parameters become 0.487 G and 3.056 M (its
README, `pruning_ratio=0.5`, 224 px). It counts batch norms, activations and pooling as
operations; the facts count convolutions and matrix products alone, so both are held here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch_pruning
from transformers import ResNetConfig, ResNetForImageClassification

from engine.domain.deployment import Deployment, Variant
from engine.domain.ports import Context
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.tasks.loading import load_module
from engine.techniques.pruning.apply import Pruning
from engine.techniques.pruning.spec import PruningConfig
from tests.models import tiny_card

SIDE = 224


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("resnet18")
    torch.manual_seed(0)
    config = ResNetConfig(
        num_channels=3, embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", num_labels=1000
    )
    ResNetForImageClassification(config).save_pretrained(directory)
    return directory


def test_half_of_the_channels(resnet18: Path, tmp_path: Path) -> None:
    card = tiny_card(resnet18)
    images = np.random.default_rng(0).normal(size=(2, 3, SIDE, SIDE)).astype(np.float32)
    context = Context(tmp_path, [{"pixel_values": images}], lambda _: None, threads=2)
    deployment = Deployment(card, Variant(str(resnet18)), RuntimeId.EAGER, Workload())
    config = PruningConfig.of({"target": "channels", "sparsity": 0.5, "importance": "magnitude"})
    applied = Pruning().apply(deployment, config, context)
    facts = applied.facts.facts
    assert facts["parameters_before"] == pytest.approx(11.690e6, abs=500)
    assert facts["parameters_after"] == pytest.approx(3.056e6, abs=500)
    assert facts["channels_before"] == 2 * facts["channels_after"]
    example = torch.from_numpy(images[:1])
    for variant, published, counted in (
        (Variant(str(resnet18)), 1.822e9, facts["macs_before"]),
        (applied.deployment.variant, 0.487e9, facts["macs_after"]),
    ):
        module = load_module(variant, card).requires_grad_(True)
        operations, _ = torch_pruning.utils.count_ops_and_params(module, example)
        assert operations == pytest.approx(published, abs=0.5e6)
        assert 0.985 * published < float(counted) < published
