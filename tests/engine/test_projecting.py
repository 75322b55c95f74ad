"""Operators of a model that a recipe would rewrite: found without training, in the child's own code."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.domain.errors import RecipeError, StageError
from engine.domain.workload import Workload
from engine.grammar import parse_recipe
from engine.hardware.gpus import gpu_of
from engine.hardware.operators import Network, OperatorKind, total_flops
from engine.hardware.projection import project
from engine.hardware.scenarios import scenario_of
from engine.host import this_host
from engine.pipeline import operators
from engine.requests import OperatorsRequest
from tests.models import tiny_bert, tiny_card, tiny_onnx, tiny_resnet

WORKLOAD = Workload(batch_size=1, sequence_length=16)


def _operators(model: Path, rewrites: str, scratch: Path) -> Network:
    scratch.mkdir()
    return operators(OperatorsRequest(str(model), tiny_card(model), WORKLOAD, rewrites, str(scratch), this_host()), lambda progress: None)


def _products(network: Network) -> int:
    return total_flops(o for o in network.forward if o.kind in (OperatorKind.MATMUL, OperatorKind.CONV2D))


def test_a_pruned_model_is_projected_by_what_is_left_of_it(tmp_path: Path) -> None:
    model = tiny_bert(tmp_path / "model")
    whole, cut = _operators(model, "", tmp_path / "a"), _operators(model, "pruning(sparsity=0.5, recover=true)", tmp_path / "b")
    # two layers of 4 square products and 2 of a feed-forward block twice as wide, which is halved
    assert _products(whole) - _products(cut) == 2 * (2 * 2 * 16 * 32 * 32)
    assert cut.parameters < whole.parameters
    scenario, h100 = scenario_of(parse_recipe("pruning(sparsity=0.5)"), tiny_card(model)), gpu_of("h100")
    shorter, longer = (project(n, h100, scenario.precision, scenario.execution).latency for n in (cut, whole))
    assert shorter < longer


def test_a_student_is_projected_before_anybody_trains_it(tmp_path: Path) -> None:
    model = tiny_bert(tmp_path / "model")
    whole, student = _operators(model, "", tmp_path / "a"), _operators(model, "distillation(layers=0.5, minutes=1000)", tmp_path / "b")
    assert _products(student) * 2 == _products(whole)


def test_channels_of_a_cnn_are_cut_too(tmp_path: Path) -> None:
    model = tiny_resnet(tmp_path / "model")
    whole, cut = _operators(model, "", tmp_path / "a"), _operators(model, "pruning(sparsity=0.5)", tmp_path / "b")
    assert _products(cut) < _products(whole)


def test_what_cannot_be_rewritten_or_projected_says_so(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="cannot run here") as refused:
        _operators(tiny_onnx(tmp_path / "model"), "pruning(sparsity=0.5)", tmp_path / "a")
    assert "Hugging Face" in refused.value.mend
    card = tiny_card(tiny_bert(tmp_path / "bert"))
    both = scenario_of(parse_recipe("pruning(sparsity=0.5)+quantization(format=int8)+gpu(device=h100)@inductor"), card)
    assert both.rewrites == "pruning(sparsity=0.5)" and both.precision.name == "int8-dynamic"
    with pytest.raises(RecipeError, match="distributed"):
        scenario_of(parse_recipe("distributed()"), card)
