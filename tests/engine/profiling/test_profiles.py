"""Operator profiles: of real tiny models on each runtime, and what their readers make of the libraries' records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.compare.causes import Cause, Evidence, causes_of
from engine.domain import operators as operators_module
from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.codec import decode, encode
from engine.domain.evidence import Examined
from engine.domain.operators import MOST_ROWS, OTHER, OVERHEAD, OperatorProfile, OperatorTime, profile_of
from engine.domain.recipe import Recipe, RuntimeId
from engine.domain.workload import Workload
from engine.host import this_host
from engine.measure.counting import Counting
from engine.pipeline import MeasureSession, transform
from engine.profiling.onnxruntime_profiler import operators_of
from engine.profiling.openvino_profiler import precision_of
from engine.requests import OpenRequest, TransformRequest
from tests.models import tiny_bert, tiny_card, tiny_llama

QUICK = Workload(sequence_length=16, new_tokens=3, threads=1, rounds=3, processes=1, round_seconds=0.05, warmup_calls=2)


def examined(model: Path, recipe: str, folder: Path) -> Examined:
    for name in ("output", "scratch"):
        (folder / name).mkdir(parents=True)
    request = TransformRequest(str(model), tiny_card(model), recipe, QUICK, "", str(folder / "output"), this_host(), 1)
    lowered = transform(request, lambda progress: None).lowered
    session = MeasureSession(OpenRequest(lowered, str(model), request.card, QUICK, "", 1, str(folder / "scratch")))
    session.round(0.02)
    return session.examine()


def profile(found: Examined) -> OperatorProfile:
    assert found.operators is not None
    return found.operators


def test_memory_is_told_in_parts(tmp_path: Path) -> None:
    found = examined(tiny_llama(tmp_path / "model"), "", tmp_path)
    # 260 tokens of 32 numbers, tied; two layers with 4 heads on 2, feed-forward width 64
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32
    assert 4 * (260 * 32 + 2 * layer + 32) <= found.weights_bytes < 4 * (260 * 32 + 2 * layer + 32) + 1000
    assert 16 * 32 * 4 < found.activations_bytes < 2**22
    assert found.kv_cache == "dynamic"
    assert [p.context for p in found.context] == [32, 64, 128, 256, 512]
    assert all(p.memory_bytes > 2**24 and p.first_token_ms > 0 for p in found.context)


def test_attention_counts_as_much_with_queries_keys_and_values_packed(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model", head_dim=16)

    def attention(recipe: str, folder: Path) -> list[OperatorTime]:
        return [o for o in profile(examined(model, recipe, folder)).operators if o.type == "GroupQueryAttention"]

    apart, packed = attention("@onnxruntime", tmp_path / "apart"), attention("quantization(format=int8)@onnxruntime", tmp_path / "packed")
    assert apart[0].shapes[0][-1] == 64 and packed[0].shapes[0][-1] == 128
    assert [o.flops for o in apart] == [o.flops for o in packed] and packed[0].flops > 0


@pytest.mark.parametrize(
    ("recipe", "source", "product"),
    [("", "torch.profiler", "linear"), ("@onnxruntime", "onnxruntime", "MatMul"), ("@openvino", "openvino", "FullyConnected")],
)
def test_every_product_of_an_encoder_is_found(recipe: str, source: str, product: str, tmp_path: Path) -> None:
    found = examined(tiny_bert(tmp_path / "model"), recipe, tmp_path)
    operators = profile(found)
    assert operators.source == source
    products = [o for o in operators.operators if o.type == product]
    # two layers of query, key, value (one product on processors for which openvino fuses them), output, and the two of the feed-forward block
    assert sum(o.calls for o in products) >= (8 if source == "openvino" else 12)
    assert {o.precision for o in products} == {"fp32"}
    # hidden 32, feed-forward 64, 16 tokens: 4 square products and 2 of the feed-forward block a layer
    linear = [o for o in products if len(o.shapes[0]) == 3]  # those of attention have heads
    assert sum(o.flops for o in linear) == 2 * 16 * 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert min(o.bytes for o in linear) >= 4 * (16 * 32 + 32 * 32 + 16 * 32)
    assert all(o.ms >= 0 for o in operators.operators)
    assert sum(o.ms for o in operators.operators) == pytest.approx(operators.total_ms)
    assert sum(map(operators.share, operators.operators)) == pytest.approx(1.0)
    assert decode(Examined, encode(found)) == found
    assert found.counters.threads == 1 and found.counters.busy_cores > 0


def test_an_eager_operator_knows_its_layer(tmp_path: Path) -> None:
    operators = profile(examined(tiny_bert(tmp_path / "model"), "", tmp_path)).operators
    layers = {o.layer for o in operators if o.type == "linear"}
    assert "encoder.layer.1.attention.self.query" in layers
    assert (1, 16, 32) in next(o for o in operators if o.layer == "encoder.layer.1.attention.self.query").shapes


def test_a_generation_counts_every_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators_module, "MOST_ROWS", 10_000)
    operators = profile(examined(tiny_llama(tmp_path / "model"), "", tmp_path)).operators
    one_projection = [o for o in operators if o.layer.endswith("layers.0.mlp.down_proj") and o.type == "linear"]
    assert sum(o.calls for o in one_projection) == QUICK.new_tokens


def test_a_recompilation_while_it_is_timed_is_counted_and_named() -> None:
    """For real: a compiled function is called with a shape that it has not seen."""
    compiled = torch.compile(lambda x: x * 2 + 1, backend="eager", dynamic=False)
    compiled(torch.ones(2))
    counting = Counting(1)
    with counting.turn():
        compiled(torch.ones(2))
    assert counting.counters().compiled_while_timed == 0
    with counting.turn():
        compiled(torch.ones(3))
    counters = counting.counters()
    assert counters.compiled_while_timed == 1
    recipe = Recipe(runtime=RuntimeId.INDUCTOR)
    card, run = ModelCard(ArtifactFormat.ONNX, TaskId.TENSORS, "f", 1, "float32", ()), Examined(counters=counters)
    (finding,) = causes_of(Evidence(recipe=recipe, facts=(), card=card, host=this_host(), baseline_ms=9.0, run_ms=9.0, run=run))
    assert finding.cause is Cause.RECOMPILED


def test_a_tiny_model_is_found_dispatch_bound_and_too_many_threads_oversubscribed(tmp_path: Path) -> None:
    found = examined(tiny_bert(tmp_path / "model"), "", tmp_path)
    counters = replace(found.counters, threads=this_host().cores + 1)
    evidence = Evidence(
        recipe=Recipe(runtime=RuntimeId.OPENVINO), facts=(), card=tiny_card(tmp_path / "model"), host=this_host(),
        baseline_ms=0.5, run_ms=0.5, baseline=found, run=replace(found, counters=counters),
    )  # fmt: skip
    assert {finding.cause for finding in causes_of(evidence)} == {Cause.DISPATCH_BOUND, Cause.OVERSUBSCRIBED}


def test_only_the_longest_are_kept_and_the_rest_is_summed() -> None:
    many = [OperatorTime(type="MatMul", name=str(i), calls=1, ms=1.0 + i) for i in range(MOST_ROWS + 50)]
    kept = profile_of("onnxruntime", many, 3)
    assert len(kept.operators) == MOST_ROWS
    (other,) = (o for o in kept.operators if o.type == OTHER)
    assert other.calls == 51
    assert sum(o.ms for o in kept.operators) == pytest.approx(sum(o.ms for o in many)) == pytest.approx(kept.total_ms)


def test_onnxruntimes_first_call_is_left_out_and_what_no_node_took_is_told() -> None:
    def node(name: str, ts: int, dur: int, kind: str) -> dict[str, object]:
        arguments = {"op_name": "MatMul", "provider": "CPUExecutionProvider", "input_type_shape": [{kind: [1, 4]}, {kind: [4, 2]}]}
        return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": arguments}

    def run(ts: int, dur: int) -> dict[str, object]:
        return {"cat": "Session", "name": "model_run", "ts": ts, "dur": dur, "args": {}}

    events = [run(0, 900), node("a", 10, 800, "float"), run(1000, 100), node("a", 1010, 40, "float"), run(2000, 100), node("a", 2010, 60, "float"), node("b", 2080, 10, "int8")]
    found = {o.name: o for o in operators_of(events, 2)}
    assert found["a"].ms == pytest.approx(0.05) and found["a"].calls == 1
    assert found["a"].shapes == ((1, 4), (4, 2)) and found["a"].precision == "fp32"
    assert found["b"].precision == "int8"
    assert found[OVERHEAD].ms == pytest.approx((200 - 110) / 2e3)


def test_openvinos_kernels_name_their_format() -> None:
    kernels = ("brgemm_avx512_I8", "gemm_mlas_f32", "jit_avx512_bf16", "unknown")
    assert [precision_of(k) for k in kernels] == ["int8", "fp32", "bf16", ""]


def test_shares_of_nothing_are_nothing() -> None:
    assert profile_of("openvino", [OperatorTime(type="a", name="a", calls=1, ms=0.0)], 1).share(OperatorTime(type="a", name="a", calls=1, ms=0.0)) == 0.0
    assert np.isfinite(profile_of("openvino", [], 1).total_ms)
