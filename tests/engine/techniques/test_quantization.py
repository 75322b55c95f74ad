"""Quantization's knobs: what is refused before launch, with what reason, and what a recipe means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.host import HostFacts
from engine.domain.recipe import RuntimeId
from engine.grammar import parse_recipe
from engine.plan import make_plan
from engine.techniques.quantization.spec import QuantizationConfig
from engine.techniques.quantization.support import KNOBS, SUPPORT

OLD = HostFacts("host", "an old CPU", 2, 2**34, frozenset({"avx2"}))
NEW = replace(OLD, cpu="a new CPU", cpu_flags=frozenset({"avx2", "avx512_vnni", "avx512_bf16", "avx512_fp16"}))
LM = ModelCard(ArtifactFormat.GGUF, TaskId.CAUSAL_LM, "LlamaForCausalLM", 135_000_000, "Q4_1", (), operators={"Linear": 211})
BERT = ModelCard(ArtifactFormat.HUGGINGFACE, TaskId.TEXT_ENCODER, "BertModel", 22_000_000, "float32", (), operators={"Linear": 36})
VIT = replace(BERT, task=TaskId.IMAGE_CLASSIFIER, architecture="ViTForImageClassification", operators={"Linear": 73, "Conv2d": 1})
RESNET = replace(BERT, task=TaskId.IMAGE_CLASSIFIER, architecture="ResNet", operators={"Linear": 1, "Conv2d": 20})


def refusals(recipe: str, card: ModelCard, host: HostFacts = OLD) -> list[str]:
    return [str(obstacle) for obstacle in make_plan(parse_recipe(recipe), card, host).refusals]


@pytest.mark.parametrize(
    ("recipe", "card"),
    [
        ("quantization(format=int4, group_size=64, calibration=awq)@openvino", LM),
        ("quantization(format=int4, calibration=gptq, ratio=0.8)@openvino", LM),
        ("quantization(format=int4, fallback=0.99)@openvino", LM),
        ("quantization(format=int8, kv_cache=int8)@openvino", LM),
        ("quantization(format=int4, group_size=64)@eager", LM),
        ("quantization(format=int4, calibration=none)@onnxruntime", LM),
        ("quantization(format=int8, smooth=0.5)@onnxruntime", BERT),
        ("quantization(format=int8, mode=static, fallback=0.99)@openvino", BERT),
        ("quantization(format=int8)@eager", VIT),
        ("quantization(format=int8)@inductor", VIT),
    ],
)
def test_what_runs_is_not_refused(recipe: str, card: ModelCard) -> None:
    assert refusals(recipe, card) == []


@pytest.mark.parametrize(
    ("recipe", "card", "says"),
    [
        ("quantization(format=int4, calibration=awq)@onnxruntime", LM, "onnxruntime has no calibration=awq for int4 of a causal"),
        ("quantization(format=int4, calibration=awq)@eager", LM, "@openvino"),
        ("quantization(format=int4, group_size=48)@eager", LM, "group_size=32 or 64 or 128 or 256"),
        ("quantization(format=int8, calibration=awq)@openvino", BERT, "Leave calibration out"),
        ("quantization(format=int8, kv_cache=int8)@onnxruntime", LM, "@openvino"),
        ("quantization(format=int8, kv_cache=int8)@openvino", BERT, "kv_cache=int8"),
        ("quantization(format=int8, kv_cache=int8)@openvino", replace(LM, format=ArtifactFormat.ONNX), "kv_cache=int8"),
        ("quantization(format=int8, smooth=0.5, mode=weight_only)@openvino", BERT, "no smooth=0.5 for weight_only int8"),
        ("quantization(format=int8, fallback=0.99)@inductor", BERT, "@onnxruntime or @openvino"),
        ("quantization(format=int8)@eager", RESNET, "eager has no int8"),
        ("quantization(format=fp16)@eager", BERT, "needs native fp16 arithmetic for fp16, which an old CPU lacks"),
        ("quantization(format=fp16)@openvino", RESNET, "native fp16 arithmetic"),
        ("quantization(format=bf16)@openvino", BERT, "native bf16 arithmetic"),
    ],
)
def test_what_does_not_run_is_refused_with_the_way_out(recipe: str, card: ModelCard, says: str) -> None:
    found = refusals(recipe, card)
    assert len(found) == 1
    assert says in found[0]


@pytest.mark.parametrize("recipe", ["quantization(format=fp16)@eager", "quantization(format=fp16)@openvino", "quantization(format=bf16)@openvino"])
def test_a_newer_processor_takes_half_precision(recipe: str) -> None:
    assert refusals(recipe, BERT, NEW) == []


def test_every_row_names_a_knob_and_a_format_that_exist() -> None:
    knobs = {k.name: k for k in QuantizationConfig.knobs()}
    for row in SUPPORT:
        assert row.format in knobs["format"].choices
        assert set(row.modes) <= set(knobs["mode"].choices)
    for knob in KNOBS:
        assert any(row.runtime is knob.runtime and row.format == knob.format and row.tasks & knob.tasks for row in SUPPORT)
        if knobs[knob.knob].choices:
            assert set(knob.values) <= set(knobs[knob.knob].choices)


def test_a_knob_at_its_default_is_never_an_obstacle() -> None:
    for runtime in (RuntimeId.ONNXRUNTIME, RuntimeId.OPENVINO):
        assert refusals(f"quantization(format=int8, calibration=auto, smooth=0.7, fallback=0.0)@{runtime}", BERT) == []
