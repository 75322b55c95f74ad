"""What model parallelism and replicas refuse before launch, each with its mend; what they set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.deployment import Deployment, Variant
from engine.domain.errors import StageError
from engine.domain.host import HostFacts
from engine.domain.layout import Cut
from engine.domain.ports import Context
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.grammar import parse_recipe
from engine.plan import make_plan
from engine.techniques.distributed.apply import Distributed
from engine.techniques.distributed.spec import DistributedConfig
from engine.techniques.model_parallelism.apply import ModelParallelism
from engine.techniques.model_parallelism.spec import Kind, ModelParallelismConfig, Split
from engine.techniques.model_parallelism.support import degrees_for

HOST = HostFacts("small", "a CPU", 2, 2**34)
LARGE = replace(HOST, name="large", cores=16)
SMOLLM = ModelCard(
    ArtifactFormat.GGUF, TaskId.CAUSAL_LM, "LlamaForCausalLM", 135_000_000, "Q4_1", (), num_layers=30, num_heads=9,
    num_kv_heads=3, hidden_size=576, intermediate_size=1536,
)  # fmt: skip
BERT = replace(SMOLLM, task=TaskId.TEXT_ENCODER, architecture="BertModel", num_layers=6, num_heads=12, num_kv_heads=12)
RESNET = ModelCard(ArtifactFormat.HUGGINGFACE, TaskId.IMAGE_CLASSIFIER, "ResNetForImageClassification", 11_000_000, "float32", (), operators={"Conv2d": 20})


def refused(recipe: str, card: ModelCard = SMOLLM, host: HostFacts = LARGE) -> str:
    return " ".join(map(str, make_plan(parse_recipe(recipe), card, host).refusals))


@pytest.mark.parametrize(
    ("recipe", "card", "host", "says", "mend"),
    [
        ("model_parallelism(kind=tensor, degree=2, split=whole)", SMOLLM, LARGE, "9 heads and 3 key-value heads do not divide by 2", "degree of 3, or split=mlp"),
        ("model_parallelism(kind=tensor, degree=5)", SMOLLM, LARGE, "1536 features of an MLP do not divide by 5", "degree of 2 or 3 or 4"),
        ("model_parallelism(kind=tensor, degree=2)", RESNET, LARGE, "no plan that splits", "kind=pipeline"),
        ("model_parallelism(kind=pipeline, degree=8)", BERT, LARGE, "6 layers, fewer than the 8 workers", "at most 6"),
        ("model_parallelism(degree=4)", SMOLLM, HOST, "4 workers need a core each; small has 2", "at most 2"),
        ("model_parallelism(degree=2)+distributed(replicas=2)", SMOLLM, HOST, "4 workers", "at most 2"),
        ("model_parallelism(degree=2)@openvino", SMOLLM, LARGE, "does not run on openvino", "@eager or @inductor"),
        ("model_parallelism()@inductor", SMOLLM, LARGE, "without compiling", "@eager"),
        ("model_parallelism()", replace(SMOLLM, architecture="GPTNeoForCausalLM"), LARGE, "by number", "distributed()"),
        ("model_parallelism()", replace(BERT, architecture="ModernBertModel"), LARGE, "traced but cannot be cut", "distributed()"),
        ("model_parallelism()", replace(BERT, architecture="RoFormerModel"), LARGE, "traced but cannot be cut", "kind=tensor"),
        ("model_parallelism()", replace(BERT, format=ArtifactFormat.ONNX), LARGE, "ONNX graph is not cut", "distributed()"),
        ("quantization(format=int8)+model_parallelism(kind=tensor)", BERT, LARGE, "does not split int8 matrices", "kind=pipeline, or quantization(format=bf16)"),
        ("quantization(format=int4)+model_parallelism(kind=tensor, degree=3)", SMOLLM, LARGE, "does not split int4 matrices", "kind=pipeline"),
        ("distributed(replicas=2, hosts=2)", SMOLLM, LARGE, "2 hosts are placed by a Ray cluster with a token, and large belongs to none", "On every host: pip install -r requirements-cluster.txt; then RAY_AUTH_MODE=token ray start --head"),
        ("distributed(replicas=2, hosts=3)", SMOLLM, replace(LARGE, cluster=True), "2 workers, 1 on a host, leave one of 3 hosts without any", "fewer hosts"),
        ("distributed(replicas=8, hosts=2)", SMOLLM, replace(HOST, cluster=True), "8 workers need a core each", "at most 4"),
        ("pruning(sparsity=0.3)+model_parallelism(kind=tensor, degree=3)", SMOLLM, LARGE, "1072 features of an MLP do not divide by 3", "degree of 2 or 4 or 8"),
        ("distillation(layers=1.0, width=0.7)+model_parallelism(kind=tensor, degree=3)", BERT, LARGE, "1072 features", "degree of 2 or 4"),
        ("distillation(layers=0.5)+model_parallelism(degree=4)", BERT, LARGE, "3 layers, fewer than the 4 workers", "at most 3"),
        ("pruning(target=layers, sparsity=0.5)+model_parallelism(degree=4)", BERT, LARGE, "3 layers, fewer", "at most 3"),
        ("pruning(target=heads, sparsity=0.4)+model_parallelism(kind=tensor, split=whole)", BERT, LARGE, "7 heads and 7 key-value heads do not divide by 2", "or split=mlp"),
    ],
)  # fmt: skip
def test_refused_before_launch_with_the_way_out(recipe: str, card: ModelCard, host: HostFacts, says: str, mend: str) -> None:
    said = refused(recipe, card, host)
    assert says in said and mend in said


@pytest.mark.parametrize(
    "recipe",
    [
        "model_parallelism(kind=tensor, degree=3)", "model_parallelism(kind=tensor, degree=2)", "model_parallelism(kind=pipeline)",
        "model_parallelism(degree=2)+distributed(replicas=2)", "distributed(replicas=2)@openvino",
        "quantization(format=int8)+distributed(replicas=2)@onnxruntime", "quantization(format=bf16)+model_parallelism(kind=tensor)",
    ],
)  # fmt: skip
def test_what_can_run_is_planned_with_the_cut_before_the_copies(recipe: str) -> None:
    plan = make_plan(parse_recipe(recipe), SMOLLM, LARGE)
    assert plan.runs, plan.refusals
    order = [stage.technique for stage in plan.stages]
    assert order == sorted(order, key=["quantization", "model_parallelism", "distributed"].index)


def test_degrees_that_divide() -> None:
    assert degrees_for(SMOLLM, attention=True) == (3,)
    assert degrees_for(SMOLLM, attention=False)[:4] == (2, 3, 4, 6)
    assert degrees_for(BERT, attention=True) == (2, 3, 4, 6, 12)


def test_heads_that_do_not_divide_leave_the_mlps(context: Context) -> None:
    config = ModelParallelismConfig(kind=Kind.TENSOR, degree=2)
    applied = ModelParallelism().apply(deployment(), config, context)
    assert applied.deployment.layout.cut is Cut.TENSOR and not applied.deployment.layout.split_attention
    assert "degrees of 3 would split attention too" in applied.facts.remarks[0]
    whole = ModelParallelism().apply(deployment(), replace(config, degree=3), context)
    assert whole.deployment.layout.split_attention and whole.facts.remarks == ()
    asked = ModelParallelism().apply(deployment(), replace(config, degree=3, split=Split.MLP), context)
    assert not asked.deployment.layout.split_attention and asked.facts.remarks == ()


def test_heads_that_an_earlier_stage_left_are_what_counts(context: Context, tmp_path: Path) -> None:
    (tmp_path / "variant.json").write_text(json.dumps({"attributes": {f"layers.{i}": {"num_heads": n} for i, n in enumerate((4, 6))}}))
    pruned = replace(deployment(), variant=Variant(str(tmp_path)))
    halves = ModelParallelism().apply(pruned, ModelParallelismConfig(kind=Kind.TENSOR, degree=2), context)
    assert halves.deployment.layout.split_attention
    thirds = ModelParallelism().apply(pruned, ModelParallelismConfig(kind=Kind.TENSOR, degree=3), context)
    assert "4, 6 heads left by an earlier stage do not divide by 3; degrees of 2" in thirds.facts.remarks[0]
    with pytest.raises(StageError, match="4, 6 heads left by an earlier stage do not divide by 3"):
        ModelParallelism().apply(pruned, ModelParallelismConfig(kind=Kind.TENSOR, degree=3, split=Split.WHOLE), context)


def test_replicas_are_made_for_their_share_and_keep_the_cut(context: Context) -> None:
    cut = ModelParallelism().apply(deployment(batch=5), ModelParallelismConfig(timeout=9.0), context).deployment
    spread = Distributed().apply(cut, DistributedConfig(replicas=2), context).deployment
    assert spread.workload.batch_size == 3 and spread.layout.max_batch == 3
    assert (spread.layout.cut, spread.layout.workers, spread.layout.timeout) == (Cut.PIPELINE, 4, 60.0)


def test_a_batch_too_small_to_share_says_what_grows(context: Context) -> None:
    applied = Distributed().apply(deployment(batch=1), DistributedConfig(replicas=2), context)
    assert "its latency stays" in applied.facts.remarks[0]


def deployment(batch: int = 2) -> Deployment:
    return Deployment(SMOLLM, Variant("nowhere"), RuntimeId.EAGER, Workload(batch_size=batch))


@pytest.fixture
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return Context(tmp_path_factory.mktemp("scratch"), [], lambda _: None, 1)
