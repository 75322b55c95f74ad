from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.domain.artifact import ArtifactFormat, TaskId
from engine.domain.errors import IntakeError
from engine.intake.inspection import inspect, serve
from engine.intake.places import samples
from engine.requests import InspectRequest
from tests.engine.intake.conftest import unheard
from tests.engine.intake.packing import copied, edited

Shape = list[str | int]


def test_generic_tensors(mlp: Path) -> None:
    card = inspect(mlp)
    assert (card.format, card.task, card.architecture) == (ArtifactFormat.ONNX, TaskId.TENSORS, "tiny_mlp")
    assert card.parameters == 16 * 64 + 64 + 64 * 8 + 8
    assert card.dtype == "float32"
    assert card.operators == {"Add": 2, "MatMul": 2, "Relu": 1}
    assert [(s.name, s.dtype, s.shape) for s in card.inputs] == [("x", "float32", ("batch", 16))]
    assert [(s.name, s.shape) for s in card.outputs] == [("y", ("batch", 8))]
    assert card.notes[0] == "ONNX opset 18."


def test_the_real_one(tmp_path: Path) -> None:
    sample = next(s for s in samples() if s.id == "text-direction")
    card = serve(InspectRequest(str(sample.path), str(tmp_path)), unheard).card
    assert (card.task, card.num_channels, card.num_labels, card.parameters) == (TaskId.IMAGE_CLASSIFIER, 3, 2, 133_701)
    assert card.inputs[0].shape == ("batch", 3, "dim_2", "dim_3")
    assert card.operators["Conv"] == 53


@pytest.mark.parametrize(
    ("inputs", "output", "shape", "task"),
    [
        ({"pixels": ["n", 3, 32, 32]}, "logits", ["n", 10], TaskId.IMAGE_CLASSIFIER),
        ({"pixels": ["n", 3, "h", "w"]}, "logits", ["n", 10], TaskId.IMAGE_CLASSIFIER),
        ({"pixels": ["n", 1, 28, 28]}, "scores", ["n", 10], TaskId.IMAGE_CLASSIFIER),
        ({"pixels": ["n", 32, 32, 3]}, "logits", ["n", 10], TaskId.TENSORS),
        ({"pixels": ["n", 3, 32, 32]}, "map", ["n", 10, 32, 32], TaskId.TENSORS),
        ({"pixels": ["n", 3, 32, 32]}, "score", ["n", 1], TaskId.TENSORS),
        ({"pixels": ["n", 3, 32, 32]}, "huge", ["n", 100_001], TaskId.TENSORS),
        ({"a": ["n", 3, 32, 32], "b": ["n", 4]}, "logits", ["n", 10], TaskId.TENSORS),
        ({"input_ids": ["n", "s"], "attention_mask": ["n", "s"]}, "logits", ["n", 3], TaskId.TEXT_CLASSIFIER),
        ({"input_ids": ["n", "s"]}, "last_hidden_state", ["n", "s", 8], TaskId.TEXT_ENCODER),
        ({"input_ids": ["n", "s"], "attention_mask": ["n", "s"]}, "logits", ["n", "s", 260], TaskId.TENSORS),
        ({"input_ids": ["n", "s"], "past_key_values.0.key": ["n", 4, "p", 8]}, "logits", ["n", 3], TaskId.TENSORS),
    ],
)
def test_task(inputs: dict[str, Shape], output: str, shape: Shape, task: TaskId, tmp_path: Path) -> None:
    write(tmp_path, inputs, output, shape)
    card = inspect(tmp_path)
    assert card.task is task
    if task in (TaskId.IMAGE_CLASSIFIER, TaskId.TEXT_CLASSIFIER):
        assert card.num_labels == shape[-1]
    if task.takes_text:
        assert (card.vocab_size, card.hidden_size) == (260, 8)


def test_sizes_of_text_come_from_the_config_beside_it(tmp_path: Path) -> None:
    write(tmp_path, {"input_ids": ["n", "s"]}, "last_hidden_state", ["n", "s", 8])
    edited(
        tmp_path, model_type="roberta", max_position_embeddings=130, pad_token_id=1, num_attention_heads=2, vocab_size=999,
        num_hidden_layers=3, hidden_size=8,
    )  # fmt: skip
    card = inspect(tmp_path)
    assert (card.max_positions, card.num_heads, card.num_layers, card.vocab_size) == (128, 2, 3, 260)


def test_external_data_is_kept_and_counted(mlp: Path, tmp_path: Path) -> None:
    source, into = tmp_path / "source", tmp_path / "into"
    (source / "onnx").mkdir(parents=True)
    into.mkdir()
    model = onnx.load(mlp / "model.onnx")
    onnx.save(
        model, source / "onnx" / "net.onnx", save_as_external_data=True, location="net.onnx.data", size_threshold=0
    )
    (source / "unrelated.bin").write_bytes(bytes(100))
    card = serve(InspectRequest(str(source), str(into)), unheard).card
    assert card.parameters == inspect(mlp).parameters
    assert {f.name for f in into.iterdir()} == {"model.onnx", "net.onnx.data"}
    assert any("unrelated.bin" in note for note in card.notes)


def test_weights_in_a_subgraph_are_checked_too(mlp: Path, tmp_path: Path) -> None:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="../outside")
    inner = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["z"])],
        "inner",
        [],
        [helper.make_tensor_value_info("z", 1, [1])],
        [weight],
    )
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    graph = helper.make_graph(
        [branch],
        "g",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", 1, [1])],
    )
    (tmp_path / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(IntakeError, match="outside its folder"):
        inspect(tmp_path)


def test_operators_of_onnxruntime_are_told(tmp_path: Path) -> None:
    write(tmp_path, {"x": ["n", 4]}, "y", ["n", 4], domain="com.microsoft", operator="FastGelu")
    assert any("com.microsoft" in note for note in inspect(tmp_path).notes)


def test_two_models_are_one_too_many(mlp: Path, tmp_path: Path) -> None:
    folder = copied(mlp, tmp_path / "two")
    (folder / "other.onnx").write_bytes((folder / "model.onnx").read_bytes())
    (tmp_path / "into").mkdir()
    with pytest.raises(IntakeError, match=r"2 ONNX models: model\.onnx, other\.onnx"):
        serve(InspectRequest(str(folder), str(tmp_path / "into")), unheard)


def write(
    folder: Path, inputs: dict[str, Shape], output: str, shape: Shape, operator: str = "Identity", domain: str = ""
) -> None:
    """A graph of these inputs and one output; what lies between does not matter to the card."""
    kinds = {name: TensorProto.INT64 if "ids" in name or "mask" in name else TensorProto.FLOAT for name in inputs}
    values: list[Any] = [helper.make_tensor_value_info(n, kinds[n], s) for n, s in inputs.items()]
    table = numpy_helper.from_array(np.ones((260, 8), np.float32), "table")
    first = next(iter(inputs))
    if kinds[first] == TensorProto.INT64:
        nodes = [helper.make_node("Gather", ["table", first], ["h"]), helper.make_node("Identity", ["h"], [output])]
    else:
        nodes = [helper.make_node(operator, [first], [output], domain=domain)]
    graph = helper.make_graph(
        nodes, "g", values, [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)], [table]
    )
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    (folder / "model.onnx").write_bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())
