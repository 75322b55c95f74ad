"""Quantization-aware training: the weights bear rounding better than they did, and stay an ordinary model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import AutoTokenizer

from engine.data.probes import probe_texts
from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.deployment import Deployment, NumberFormat, Variant
from engine.domain.errors import StageError
from engine.domain.ports import Context, Material
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.estimate import training_seconds
from engine.grammar import parse_recipe
from engine.plan import make_plan
from engine.tasks.loading import WEIGHTS, load_module
from engine.techniques.quantization.apply import Quantization
from engine.techniques.quantization.spec import QuantizationConfig
from tests.engine.techniques.test_quantization import BERT, NEW, RESNET, refusals
from tests.models import tiny_bert, tiny_card, tiny_llama

GROUP = 16


def _trained(directory: Path, scratch: Path, **knobs: object) -> tuple[Variant, dict[str, object]]:
    card, variant = tiny_card(directory), Variant(str(directory))
    texts = Material(texts=probe_texts("calibration").texts[:48], scored_texts=probe_texts("scored").texts)
    context = Context(scratch, [], lambda _: None, 1, variant, texts, None)
    config = QuantizationConfig.of({"qat": True, "steps": 40, "sentences": 0} | knobs)
    applied = Quantization().apply(Deployment(card, variant, RuntimeId.EAGER, Workload(batch_size=2, sequence_length=32)), config, context)
    assert applied.deployment.formats.weights is NumberFormat(str(config.format))
    return applied.deployment.variant, dict(applied.facts.facts)


@torch.no_grad()
def _rounded_error(variant: Variant, original: Path) -> float:
    """How far the answers to texts that nobody trained on are from the original's, once the weights have 4 bits.

    Of an encoder 1 − cosine of the mean embedding, of a causal LM the divergence of the next token's distribution.
    """
    card = tiny_card(original)
    whole, rounded = load_module(Variant(str(original)), card), load_module(variant, card)
    head = rounded.model.get_output_embeddings() if card.task is TaskId.CAUSAL_LM else None
    for layer in rounded.modules():
        if isinstance(layer, nn.Linear) and layer is not head:
            grouped = layer.weight.reshape(len(layer.weight), -1, GROUP)
            low, high = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
            step = (high - low) / 15
            layer.weight.copy_((((grouped - low) / step).round() * step + low).reshape(layer.weight.shape))
    tokenizer = AutoTokenizer.from_pretrained(original)
    ids = torch.tensor([tokenizer(text)["input_ids"][:24] for text in probe_texts("scored").texts if len(text) > 200][:32])
    inputs = [torch.zeros_like(ids) if name == "token_type_ids" else torch.ones_like(ids) if "mask" in name else ids for name in whole.inputs]
    wanted, given = whole(*inputs)[0], rounded(*inputs)[0]
    if card.task is TaskId.CAUSAL_LM:
        return float(functional.kl_div(given.log_softmax(-1), wanted.log_softmax(-1), log_target=True, reduction="none").sum(-1).mean())
    return float(1 - functional.cosine_similarity(wanted.mean(1), given.mean(1)).mean())


@pytest.mark.parametrize("make", [tiny_bert, tiny_llama])
def test_weights_learn_to_be_rounded(make: Callable[[Path], Path], tmp_path: Path) -> None:
    directory, scratch = make(tmp_path / "model"), tmp_path / "scratch"
    scratch.mkdir()
    variant, facts = _trained(directory, scratch, format="int4", group_size=GROUP, mode="weight_only")
    assert facts["held_out_after"] > facts["held_out_before"]  # type: ignore[operator]
    assert facts["layers_trained_rounded"] and facts["training_steps"] == 40
    before, after = load_file(directory / WEIGHTS), load_file(Path(variant.directory) / WEIGHTS)
    assert {name: t.shape for name, t in before.items()} == {name: t.shape for name, t in after.items()}
    assert _rounded_error(variant, directory) < _rounded_error(Variant(str(directory)), directory)


def test_int8_trains_with_rounded_activations(tmp_path: Path) -> None:
    directory, scratch = tiny_bert(tmp_path / "model"), tmp_path / "scratch"
    scratch.mkdir()
    _, facts = _trained(directory, scratch, format="int8")
    assert facts["held_out_after"] >= facts["held_out_before"]  # type: ignore[operator]


def test_a_group_that_no_layer_fills_is_said(tmp_path: Path) -> None:
    directory = tiny_bert(tmp_path / "model")
    with pytest.raises(StageError, match="groups of 1000"):
        _trained(directory, tmp_path, format="int4", group_size=1000)


@pytest.mark.parametrize(
    ("recipe", "card", "says"),
    [
        ("quantization(format=int8, qat=true)@openvino", RESNET, "convolutions"),
        ("quantization(format=bf16, qat=true)@eager", BERT, "for integers"),
        ("quantization(format=int8, qat=true)@openvino", replace(BERT, format=ArtifactFormat.ONNX), "an ONNX graph"),
        ("quantization(format=int8, qat=true)@openvino", replace(BERT, has_tokenizer=False), "tokenizer.json"),
    ],
)
def test_what_cannot_be_trained_is_refused(recipe: str, card: ModelCard, says: str) -> None:
    assert any(says in obstacle for obstacle in refusals(recipe, card, NEW))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "inductor"])
def test_every_runtime_takes_what_was_trained(runtime: str) -> None:
    card = replace(BERT, has_tokenizer=True)
    plan = make_plan(parse_recipe(f"quantization(format=int8, qat=true, minutes=3)@{runtime}"), card, NEW)
    assert plan.refusals == () and training_seconds(plan) == 180
