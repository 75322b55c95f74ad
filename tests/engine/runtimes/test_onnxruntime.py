"""onnxruntime: right answers in every format, formats proven from the files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import helper, numpy_helper

from engine.domain.deployment import Formats, NumberFormat, QuantizationMode, Variant
from engine.domain.errors import NothingChanged, StageError
from engine.domain.ports import Array
from engine.runtimes.onnxruntime import OnnxRuntime
from engine.runtimes.ort.blocks import in_blocks
from engine.runtimes.ort.facts import census_of
from engine.runtimes.ort.smooth import smooth
from engine.runtimes.ort.tables import eight_bits
from engine.runtimes.proof import Census, demand
from tests.engine.runtimes.graphs import BERT, LLAMA, MLP, RESNET, Case, relative_error
from tests.models import tiny_llama

INT8 = Formats(weights=NumberFormat.INT8)
RUNTIME = OnnxRuntime()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case.of(LLAMA, tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case.of(BERT, tmp_path_factory.mktemp("bert"))


def test_an_encoder_answers_as_torch_does_padding_included(bert: Case, tmp_path: Path) -> None:
    lowered = bert.lower(RUNTIME, tmp_path / "out")
    batch = bert.batch()
    found = bert.open(RUNTIME, lowered).infer(batch)["last_hidden_state"]
    real = batch["attention_mask"] == 1
    np.testing.assert_allclose(found[real], bert.reference(batch)[real], atol=1e-5)
    assert lowered.facts.facts["bits_per_weight"] == 32
    assert lowered.size_bytes == (tmp_path / "out" / "model.onnx").stat().st_size
    assert lowered.files == ("model.onnx",)


def test_dynamic_int8_is_what_auto_takes_for_texts(bert: Case, tmp_path: Path) -> None:
    lowered = bert.lower(RUNTIME, tmp_path / "out", INT8)
    facts, batch = lowered.facts.facts, bert.batch()
    assert facts["mode"] == "dynamic"
    assert facts["nodes_MatMulInteger"] == 12
    assert facts["int8_weights"] == 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert relative_error(bert.open(RUNTIME, lowered).infer(batch)["last_hidden_state"], bert.reference(batch)) < 0.08


def test_sensitive_layers_stay_until_calibration_data_says_it_is_good_enough(bert: Case, tmp_path: Path) -> None:
    bold = bert.lower(RUNTIME, tmp_path / "bold", replace(INT8, fallback=0.5)).facts.facts
    assert bold["layers_kept"] == 0
    least = (1 + bold["calibration_quality_of_none_kept"]) / 2
    lowered = bert.lower(RUNTIME, tmp_path / "out", replace(INT8, fallback=least))
    facts = lowered.facts.facts
    assert 0 < facts["layers_kept"] == facts["layers_stayed"] < facts["layers"] == 12
    assert facts["calibration_quality_of_none_kept"] < least <= facts["calibration_quality"] + 1e-5
    assert facts["nodes_MatMulInteger"] == 12 - facts["layers_kept"]
    (attached,) = lowered.facts.attachments
    assert sum(layer["format"] == "fp32" for layer in attached.data["layers"]) == facts["layers_kept"]


def test_a_quality_that_no_quantized_layer_reaches_is_said(bert: Case, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="with only one layer quantized"):
        bert.lower(RUNTIME, tmp_path / "out", replace(INT8, fallback=1.0))


def test_smoothing_keeps_the_function_and_tames_an_outlier_channel(tmp_path: Path) -> None:
    case = Case.of(MLP, tmp_path)
    file = case.directory / "model.onnx"
    model = onnx.load(str(file))
    batches = [case.batch(seed) for seed in range(4)]
    for batch in batches:
        batch["x"][:, 3] *= 50

    def answer(graph: onnx.ModelProto) -> np.ndarray:
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, dict(batches[0]))[0]

    before = answer(model)
    assert smooth(model, batches) == 2
    onnx.checker.check_model(model)
    np.testing.assert_allclose(answer(model), before, rtol=1e-4, atol=1e-4)
    scale = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "x_smooth")
    assert scale.argmin() == 3


def test_convolutions_run_in_integers_with_calibrated_scales(tmp_path: Path) -> None:
    case = Case.of(RESNET, tmp_path)
    lowered = case.lower(RUNTIME, tmp_path / "out", INT8)
    batch = case.batch()
    assert lowered.facts.facts["mode"] == "static"
    assert lowered.facts.facts["bits_per_weight"] == 8
    assert relative_error(case.open(RUNTIME, lowered).infer(batch)["logits"], case.reference(batch)) < 0.1
    plain = case.lower(RUNTIME, tmp_path / "plain")
    np.testing.assert_allclose(case.open(RUNTIME, plain).infer(batch)["logits"], case.reference(batch), atol=1e-5)


def test_dynamic_int8_that_leaves_the_convolutions_alone_is_a_failure(tmp_path: Path) -> None:
    case = Case.of(RESNET, tmp_path)
    with pytest.raises(NothingChanged, match="160 of 6,072 weights"):
        case.lower(RUNTIME, tmp_path / "out", Formats(weights=NumberFormat.INT8, mode=QuantizationMode.DYNAMIC))


def test_a_causal_lm_generates_the_tokens_that_torch_does(llama: Case, tmp_path: Path) -> None:
    lowered = llama.lower(RUNTIME, tmp_path / "out")
    executor, batch = llama.open(RUNTIME, lowered), llama.batch()
    np.testing.assert_allclose(executor.infer(batch)["logits"], llama.reference(batch), atol=1e-4)
    made = executor.generate(batch["input_ids"], 6)
    np.testing.assert_array_equal(made.tokens, llama.tokens(batch["input_ids"], 6))
    assert len(made.token_times) == 6
    assert list(made.token_times) == sorted(made.token_times)
    again = executor.generate(batch["input_ids"][:, :5], 6)
    np.testing.assert_array_equal(again.tokens, llama.tokens(batch["input_ids"][:, :5], 6))
    executor.close()


def _attentions(file: Path) -> list[onnx.NodeProto]:
    return [node for node in onnx.load(str(file)).graph.node if node.op_type == "GroupQueryAttention"]


def _wide(tmp_path: Path) -> Case:
    """A Llama whose heads are of a size that onnxruntime rotates."""
    return Case(LLAMA, tiny_llama(tmp_path / "artifact", head_dim=16))


def test_attention_rotates_queries_and_keys_as_torch_does(tmp_path: Path) -> None:
    case = _wide(tmp_path)
    lowered = case.lower(RUNTIME, tmp_path / "out")
    executor, batch = case.open(RUNTIME, lowered), case.batch()
    np.testing.assert_allclose(executor.infer(batch)["logits"], case.reference(batch), atol=1e-4)
    np.testing.assert_array_equal(executor.generate(batch["input_ids"], 6).tokens, case.tokens(batch["input_ids"], 6))
    nodes = _attentions(tmp_path / "out" / "model.onnx")
    assert [a.i for node in nodes for a in node.attribute if a.name == "do_rotary"] == [1, 1]
    assert not {"Cos", "Neg"} & {node.op_type for node in onnx.load(str(tmp_path / "out" / "model.onnx")).graph.node}


def test_a_rotation_that_onnxruntime_does_not_do_stays_in_the_graph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Halves of a head interleaved, as GPT-J has them: another rotation than onnxruntime's."""

    def interleaved(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        def turned(x: torch.Tensor) -> torch.Tensor:
            pairs = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
            return x * cos.unsqueeze(1) + pairs * sin.unsqueeze(1)

        return turned(q), turned(k)

    monkeypatch.setattr("transformers.models.llama.modeling_llama.apply_rotary_pos_emb", interleaved)
    case = _wide(tmp_path)
    executor, batch = case.open(RUNTIME, case.lower(RUNTIME, tmp_path / "out")), case.batch()
    np.testing.assert_allclose(executor.infer(batch)["logits"], case.reference(batch), atol=1e-4)
    nodes = _attentions(tmp_path / "out" / "model.onnx")
    assert [a.i for node in nodes for a in node.attribute if a.name == "do_rotary"] == [0, 0]


def test_one_product_makes_query_key_and_value(tmp_path: Path) -> None:
    case = _wide(tmp_path)
    lowered = case.lower(RUNTIME, tmp_path / "out", Formats(weights=NumberFormat.INT8, mode=QuantizationMode.WEIGHT_ONLY))
    assert lowered.facts.facts["nodes_MatMulNBits"] == 11
    assert all(list(node.input[1:3]) == ["", ""] for node in _attentions(tmp_path / "out" / "model.onnx"))
    batch = case.batch()
    assert relative_error(case.open(RUNTIME, lowered).infer(batch)["logits"], case.reference(batch)) < 0.1


LAYERS = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
HEAD = 32 * 260


@pytest.mark.parametrize(
    ("weights", "mode", "stored", "worst"),
    [
        (NumberFormat.INT8, QuantizationMode.DYNAMIC, {8: LAYERS + HEAD}, 0.1),
        (NumberFormat.INT4, QuantizationMode.WEIGHT_ONLY, {4: LAYERS, 8: HEAD}, 0.9),
        (NumberFormat.INT4, QuantizationMode.DYNAMIC, {4: LAYERS, 8: HEAD}, 0.9),
    ],
)
def test_a_causal_lms_weights_become_blocks_of_integers(
    llama: Case, tmp_path: Path, weights: NumberFormat, mode: QuantizationMode, stored: dict[int, int], worst: float
) -> None:
    lowered = llama.lower(RUNTIME, tmp_path / "out", Formats(weights=weights, mode=mode))
    assert lowered.facts.facts["nodes_MatMulNBits"] == 15
    assert {bits: lowered.facts.facts[f"int{bits}_weights"] for bits in stored} == stored
    graph = onnx.load(str(tmp_path / "out" / "model.onnx")).graph
    norms = [node.op_type for node in graph.node if node.op_type.endswith("SimplifiedLayerNormalization")]
    assert (norms.count("SimplifiedLayerNormalization"), norms.count("SkipSimplifiedLayerNormalization")) == (1, 4)
    assert lowered.facts.facts["nodes_GatherBlockQuantized"] == 1
    assert all(tensor.data_type != onnx.TensorProto.FLOAT for tensor in graph.initializer if list(tensor.dims) == [260, 32])
    batch = llama.batch()
    assert relative_error(llama.open(RUNTIME, lowered).infer(batch)["logits"], llama.reference(batch)) < worst


def test_blocks_of_four_bits_keep_weights_that_came_from_a_format_with_a_free_minimum(tmp_path: Path) -> None:
    """GGUF's Q4_1: a scale and a minimum a block, neither a multiple of the other."""
    rng, block, inputs, outputs = np.random.default_rng(0), 32, 96, 64
    codes = rng.integers(0, 16, (inputs // block, block, outputs))
    codes[:, :2] = np.array([0, 15])[None, :, None]
    scales, lowest = rng.uniform(0.5, 1, (inputs // block, 1, outputs)), rng.uniform(-12, 3, (inputs // block, 1, outputs))
    values = (codes * scales + lowest).reshape(inputs, outputs).astype(np.float32)
    weights = numpy_helper.from_array(values, "w")
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", "rows", size]) for name, size in (("x", inputs), ("y", outputs)))
    middle = [helper.make_node("MatMul", ["x", "w"], ["h"], name="first"), helper.make_node("MatMul", ["h", "head"], ["y"], name="last")]
    head = numpy_helper.from_array(np.eye(outputs, dtype=np.float32), "head")
    model = helper.make_model(helper.make_graph(middle, "two", [x], [y], [weights, head]), ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    made = in_blocks(model, bits=4, block=block, accuracy_level=1)
    inputs_given = rng.normal(size=(2, 5, inputs)).astype(np.float32)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    assert relative_error(session.run(None, {"x": inputs_given})[0], inputs_given @ values) < 0.015


@given(hnp.arrays(np.float32, (3, 40), elements=st.floats(-8, 8, width=32)))
def test_blocks_of_eight_bits_are_half_a_step_off_at_most(values: Array) -> None:
    codes, scales = eight_bits(values, 32)
    steps = np.repeat(scales, 32, axis=1)[:, :40]
    assert codes.shape == values.shape
    assert np.all(np.abs((codes.astype(np.float32) - 128) * steps - values) <= steps / 2 * (1 + 1e-3))


def test_a_table_that_is_no_head_gets_blocks_of_its_own() -> None:
    rng = np.random.default_rng(0)
    table, head = rng.normal(size=(50, 40)).astype(np.float32), rng.normal(size=(40, 50)).astype(np.float32)
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["h"], name="embed"), helper.make_node("MatMul", ["h", "head"], ["logits"], name="head")]
    ids = helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["batch", "length"])
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", "length", 50])
    weights = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(head, "head")]
    model = helper.make_model(helper.make_graph(nodes, "lm", [ids], [logits], weights), ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    made = in_blocks(model, bits=4, block=32, accuracy_level=1)
    assert [node.op_type for node in made.graph.node] == ["GatherBlockQuantized", "MatMulNBits"]
    given_ids = np.array([[3, 49, 0]])
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    assert relative_error(session.run(None, {"input_ids": given_ids})[0], table[given_ids] @ head) < 0.02


def test_the_likeliest_tokens_logits_keep_eight_bits(llama: Case, tmp_path: Path) -> None:
    formats = Formats(weights=NumberFormat.INT4, mode=QuantizationMode.WEIGHT_ONLY)
    exact = llama.open(RUNTIME, llama.lower(RUNTIME, tmp_path / "exact", formats))
    lowered = llama.lower(RUNTIME, tmp_path / "short", replace(formats, shortlist=8))
    assert lowered.facts.facts["int4_weights"] == LAYERS + HEAD
    short, whole = (llama.open(RUNTIME, each) for each in (lowered, llama.lower(RUNTIME, tmp_path / "whole", replace(formats, shortlist=4096))))
    batch = llama.batch()
    expected, found = (executor.infer(batch)["logits"] for executor in (exact, short))
    assert relative_error(whole.infer(batch)["logits"], expected) < 0.04
    likeliest = found.argsort(axis=-1)[..., -4:]
    errors = np.abs(found - expected)
    assert np.take_along_axis(errors, likeliest, -1).mean() < errors.mean() / 2
    ids = batch["input_ids"]
    np.testing.assert_array_equal(short.generate(ids, 8).tokens, exact.generate(ids, 8).tokens)


def test_an_onnx_artifact_runs_as_it_is_and_quantized(tmp_path: Path) -> None:
    case = Case.of(MLP, tmp_path)
    batch = case.batch()
    source = onnxruntime.InferenceSession(str(case.directory / "model.onnx"), providers=["CPUExecutionProvider"])
    expected = source.run(None, dict(batch))[0]
    plain = case.open(RUNTIME, case.lower(RUNTIME, tmp_path / "plain"))
    np.testing.assert_array_equal(plain.infer(batch)["y"], expected)
    quantized = case.lower(RUNTIME, tmp_path / "int8", INT8)
    assert quantized.facts.facts["int8_weights"] == 16 * 64 + 64 * 8
    assert relative_error(case.open(RUNTIME, quantized).infer(batch)["y"], expected) < 0.1


def test_bf16_is_refused_with_a_way_out(tmp_path: Path) -> None:
    case = Case.of(MLP, tmp_path)
    with pytest.raises(StageError, match="no bf16 kernels") as caught:
        case.lower(RUNTIME, tmp_path / "out", Formats(weights=NumberFormat.BF16))
    assert "@openvino" in caught.value.mend


def test_only_causal_lms_generate(tmp_path: Path) -> None:
    case = Case.of(MLP, tmp_path)
    executor = case.open(RUNTIME, case.lower(RUNTIME, tmp_path / "out"))
    with pytest.raises(StageError, match="causal LM"):
        executor.generate(np.zeros((1, 4), np.int64), 2)


def test_a_file_that_is_no_graph_is_named(tmp_path: Path) -> None:
    case = Case.of(MLP, tmp_path)
    lowered = case.lower(RUNTIME, tmp_path / "out")
    (tmp_path / "out" / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(StageError, match=r"model\.onnx"):
        case.open(RUNTIME, lowered)


def test_a_file_without_the_format_is_nothing_changed(tmp_path: Path) -> None:
    case = Case.of(MLP, tmp_path)
    with pytest.raises(NothingChanged):
        demand(INT8, census_of(case.directory / "model.onnx"), ("MatMulInteger",), "onnxruntime")
    only_weights = Census({8: 100})
    with pytest.raises(NothingChanged, match="no operator computes in integers"):
        demand(Formats(weights=NumberFormat.INT8, mode=QuantizationMode.DYNAMIC), only_weights, ("MatMulInteger",), "x")


def test_a_torch_model_that_does_not_load_is_a_stage_error(tmp_path: Path) -> None:
    with pytest.raises(StageError):
        Case(BERT, Path(Variant(str(tmp_path)).directory)).lower(RUNTIME, tmp_path / "out")
