"""Tracing uploads without their weights: operators agree with the modules and with published shapes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from transformers import BertConfig, LlamaConfig, PreTrainedConfig

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId, TensorSpec
from engine.domain.deployment import Variant
from engine.domain.errors import IntakeError
from engine.domain.workload import Workload
from engine.hardware.networks import network
from engine.hardware.operators import OperatorKind, total_flops, total_weights
from engine.hardware.tracing import network_of, trace
from engine.tasks.loading import load_module
from tests.models import tiny_bert, tiny_card, tiny_llama, tiny_onnx, tiny_resnet

WORKLOAD = Workload(batch_size=2, sequence_length=16, new_tokens=5)


def test_a_causal_lm_has_a_prompt_and_a_step(tmp_path: Path) -> None:
    tiny_llama(tmp_path)
    card = tiny_card(tmp_path)
    found = network_of(Variant(str(tmp_path)), card, WORKLOAD)
    assert (found.steps, found.longest_context, found.parameters) == (4, 20, card.parameters)
    assert total_weights(found.decode) == pytest.approx(total_weights(found.forward), rel=0.05)
    attended = [o for o in found.decode if o.kind is OperatorKind.ATTENTION]
    assert [o.gemm.n for o in attended if o.gemm] == [18] * card.num_layers  # 16 of the prompt and half of the new ones
    assert 7 * total_flops(found.decode) < total_flops(found.forward) < 17 * total_flops(found.decode)


def test_fake_weights_give_what_real_ones_give(tmp_path: Path) -> None:
    tiny_bert(tmp_path)
    card = tiny_card(tmp_path)
    module = load_module(Variant(str(tmp_path)), card)
    assert trace(module, card, WORKLOAD).forward == network_of(Variant(str(tmp_path)), card, WORKLOAD).forward


def test_convolutions_are_counted(tmp_path: Path) -> None:
    tiny_resnet(tmp_path)
    card = tiny_card(tmp_path)
    found = network_of(Variant(str(tmp_path)), card, WORKLOAD)
    kinds = Counter(o.kind for o in found.forward)
    assert kinds[OperatorKind.CONV2D] == sum(type(m) is nn.Conv2d for m in load_module(Variant(str(tmp_path)), card).modules())
    assert all(o.gemm and o.flops == 2 * o.gemm.macs for o in found.forward if o.kind is OperatorKind.CONV2D)


def test_an_onnx_graph_is_inferred(tmp_path: Path) -> None:
    tiny_onnx(tmp_path)
    card = tiny_card(tmp_path)
    found = network_of(Variant(str(tmp_path)), card, WORKLOAD)
    products = [o for o in found.forward if o.kind is OperatorKind.MATMUL]
    assert len(products) == 2
    assert all(o.gemm and o.gemm.m == 2 and o.weight_elements >= o.gemm.k * o.gemm.n for o in products)


def test_sizes_that_an_onnx_graph_computes_are_observed(tmp_path: Path) -> None:
    """Flattened to what a slice of its own shape says, which goes through floats: no inference follows that."""
    steps = [
        ("Shape", ["x"], "shape"), ("Cast", ["shape"], "floats"), ("Slice", ["floats", "zero", "one"], "first"),
        ("Cast", ["rest"], "wide"), ("Concat", ["first", "wide"], "wanted"), ("Cast", ["wanted"], "whole"),
        ("Reshape", ["x", "whole"], "flat"), ("MatMul", ["flat", "w"], "y"),
    ]  # fmt: skip
    types = {"floats": TensorProto.FLOAT, "wide": TensorProto.FLOAT, "whole": TensorProto.INT64}
    nodes = [
        helper.make_node(kind, given, [made], **({"to": types[made]} if kind == "Cast" else {"axis": 0} if kind == "Concat" else {}))
        for kind, given, made in steps
    ]
    stored = {"zero": np.int64([0]), "one": np.int64([1]), "rest": np.int64([-1]), "w": np.ones((12, 5), np.float32)}
    graph = helper.make_graph(
        nodes, "flattens", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])], [numpy_helper.from_array(v, k) for k, v in stored.items()],
    )  # fmt: skip
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "model.onnx")
    card = ModelCard(ArtifactFormat.ONNX, TaskId.TENSORS, "flattens", 60, "float32", ())
    (product,) = (o for o in network_of(Variant(str(tmp_path)), card, WORKLOAD).forward if o.kind is OperatorKind.MATMUL)
    assert product.gemm is not None and (product.gemm.m, product.gemm.k, product.gemm.n) == (WORKLOAD.batch_size, 12, 5)


@pytest.mark.parametrize(
    ("name", "config", "task", "outputs"),
    [
        ("llama-7b", LlamaConfig(hidden_size=4096, intermediate_size=11008, num_hidden_layers=2, num_attention_heads=32), TaskId.CAUSAL_LM, "logits"),
        ("bert-base", BertConfig(), TaskId.TEXT_ENCODER, "last_hidden_state"),
    ],
    ids=["llama-7b", "bert-base"],
)  # fmt: skip
def test_a_config_traces_to_the_published_shape(
    tmp_path: Path, name: str, config: PreTrainedConfig, task: TaskId, outputs: str
) -> None:
    """Without a byte of weights; two of LLaMA's 32 layers are enough to compare."""
    config.save_pretrained(tmp_path)
    inputs = [TensorSpec("input_ids", "int64", ("batch", "sequence"))]
    if task is TaskId.TEXT_ENCODER:
        inputs.append(TensorSpec("attention_mask", "int64", ("batch", "sequence")))
    card = ModelCard(
        ArtifactFormat.HUGGINGFACE, task, name, 0, "float32", tuple(inputs), (TensorSpec(outputs, "float32", ()),)
    )
    found = network_of(Variant(str(tmp_path)), card, Workload(sequence_length=128, new_tokens=1))
    published = network(name, sequence=128)
    head = total_flops(o for o in published.forward if o.name == "lm_head")
    scale = config.num_hidden_layers / (32 if name == "llama-7b" else 12)
    assert total_flops(found.forward) == pytest.approx((total_flops(published.forward) - head) * scale + head, rel=0.01)


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    card = ModelCard(ArtifactFormat.ONNX, TaskId.TENSORS, "x", 0, "float32", ())
    with pytest.raises(IntakeError):
        network_of(Variant(str(tmp_path)), card, WORKLOAD)
