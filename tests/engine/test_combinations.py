"""Distillation, pruning and quantization together: every combination and order runs or says why not."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, pairwise, permutations
from pathlib import Path

import pytest

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.deployment import Variant
from engine.domain.host import HostFacts
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.grammar import parse_recipe
from engine.host import this_host
from engine.pipeline import transform
from engine.plan import make_plan
from engine.requests import TransformRequest
from engine.tasks.loading import load_module
from tests.models import tiny_bert, tiny_card, tiny_resnet

HOST = HostFacts("host", "a CPU", 2, 2**34, frozenset({"avx2", "avx512_vnni", "avx512_bf16"}))
BERT = ModelCard(
    ArtifactFormat.HUGGINGFACE, TaskId.TEXT_ENCODER, "BertModel", 22_000_000, "float32", (), operators={"Linear": 36},
    num_layers=6, num_heads=12, num_kv_heads=12, hidden_size=384, intermediate_size=1536, has_tokenizer=True,
)  # fmt: skip
CARDS = {
    "encoder": BERT,
    "causal lm": replace(BERT, task=TaskId.CAUSAL_LM, architecture="LlamaForCausalLM"),
    "vit": replace(BERT, task=TaskId.IMAGE_CLASSIFIER, architecture="ViTForImageClassification"),
    "cnn": replace(BERT, task=TaskId.IMAGE_CLASSIFIER, architecture="ResNet", num_heads=0, operators={"Conv2d": 20}),
    "onnx": replace(BERT, format=ArtifactFormat.ONNX),
}
THREE = ("distillation(layers=0.5)", "pruning(sparsity=0.5)", "quantization(format=int8)")
WRITTEN = ["+".join(order) for order in chain.from_iterable(permutations(THREE, count) for count in (1, 2, 3))]


@pytest.mark.parametrize("runtime", RuntimeId)
@pytest.mark.parametrize("model", CARDS)
def test_every_combination_and_order_is_planned_or_refused_with_its_reason(model: str, runtime: RuntimeId) -> None:
    assert len(WRITTEN) == 15
    for text in WRITTEN:
        plan = make_plan(parse_recipe(f"{text}@{runtime}"), CARDS[model], HOST)
        order = [str(stage.technique) for stage in plan.stages]
        assert order == [name for name in ("distillation", "pruning", "quantization") if name in text]
        assert plan.runs or all(refusal.reason and refusal.mend for refusal in plan.refusals)
        if model == "onnx" and order != ["quantization"]:
            assert not plan.runs


def test_a_wrong_order_cannot_be_built() -> None:
    """However it is written, weights are cut before they are quantized, and the plan says why."""
    plan = make_plan(parse_recipe("quantization(format=int8)+pruning()+distillation()"), BERT, HOST)
    assert [str(stage.technique) for stage in plan.stages] == ["distillation", "pruning", "quantization"]
    assert "cannot be trained" in plan.stages[2].reason
    assert "cannot be cut" in plan.stages[2].reason


@pytest.mark.parametrize(
    ("recipe", "model", "says"),
    [
        ("pruning(kind=semi_structured, sparsity=0.5)", "encoder", "this host has no GPU"),
        ("pruning(kind=semi_structured, sparsity=0.5, importance=sparsegpt)", "encoder", "two of every four"),
        ("quantization(format=fp8)", "encoder", "Hopper"),
        ("quantization(format=fp8)+gpu(device=a100-80)", "encoder", "no units that multiply fp8"),
        ("quantization(format=fp8)+gpu(device=h100)@openvino", "encoder", "openvino has no fp8"),
        ("pruning(kind=unstructured, recover=true)", "encoder", "would come back"),
        ("pruning(importance=sparsegpt)", "encoder", "single weights"),
        ("pruning(kind=unstructured, importance=taylor)", "encoder", "whole neurons"),
        ("pruning(target=channels)", "encoder", "no convolution channels"),
        ("pruning(target=layers)", "cnn", "no transformer layers"),
        ("pruning(target=layers, sparsity=0.05)", "encoder", "removes no layer of 6"),
        ("pruning(target=layers, ratios=sensitivity)", "encoder", "shares of their own"),
        ("distillation(layers=1.0)", "encoder", "the student would be the teacher"),
        ("distillation(layers=0.5)", "onnx", "no longer has them"),
    ],
)
def test_what_makes_no_sense_is_refused(recipe: str, model: str, says: str) -> None:
    plan = make_plan(parse_recipe(recipe), CARDS[model], HOST)
    assert not plan.runs
    assert any(says in refusal.reason and refusal.mend for refusal in plan.refusals)


@pytest.mark.parametrize(
    ("make", "recipe"),
    [
        (tiny_bert, "quantization()+pruning(recover=true, steps=2, sentences=0)+distillation(steps=2, sentences=0)@eager"),
        (tiny_bert, "pruning(target=layers, sparsity=0.5)+quantization()@onnxruntime"),
        (tiny_resnet, "distillation(width=0.5, steps=2)+pruning(recover=true, steps=2)@onnxruntime"),
    ],
)
def test_combinations_are_carried_out(make: object, recipe: str, tmp_path: Path) -> None:
    assert callable(make)
    model = make(tmp_path / "model")
    for name in ("output", "checkpoints"):
        (tmp_path / name).mkdir()
    workload = Workload(batch_size=2, sequence_length=32, threads=1)
    request = TransformRequest(
        str(model), tiny_card(model), recipe, workload, "", str(tmp_path / "output"), this_host(), 1,
        checkpoint_dir=str(tmp_path / "checkpoints"),
    )  # fmt: skip
    done = transform(request, lambda _: None)
    rewriting = [facts for facts in done.facts if "parameters_after" in facts.facts]
    assert rewriting
    for before, after in pairwise(rewriting):
        assert after.facts["parameters_before"] == before.facts["parameters_after"]
    uploaded = sum(p.numel() for p in load_module(Variant(str(model)), request.card).parameters())
    assert rewriting[0].facts["parameters_before"] == uploaded
    assert float(rewriting[-1].facts["parameters_after"]) < uploaded
