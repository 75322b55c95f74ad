"""ONNX models: checked by onnx's own checker, external data kept inside their folder."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import onnx
from onnx import TensorProto

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId, TensorSpec
from engine.domain.errors import IntakeError
from engine.intake.cards import sizes_of
from engine.intake.config import CONFIG, read_json
from engine.intake.hostile import reading
from engine.intake.onnx_graph import EXPORT, external_files, graph_nodes, load, nodes
from engine.intake.tokenizer import read_tokenizer

_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_OLDEST_OPSET = 7
_MOST_CLASSES = 100_000
_TEXT_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
_BOOKKEEPING = frozenset({TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING, TensorProto.UNDEFINED})
"""Number formats of shapes, indices and flags; all else counts as parameters."""

Specs = tuple[TensorSpec, ...]


def inspect(file: Path) -> ModelCard:
    """The card of an ONNX model. Raises IntakeError."""
    model = load(file)
    external_files(model, file.parent)
    _check(model, file)
    graph = model.graph
    weights = {i.name for i in graph.initializer}
    inputs = tuple(_spec(v, file.name) for v in graph.input if v.name not in weights)
    outputs = tuple(_spec(v, file.name) for v in graph.output)
    if not inputs:
        raise IntakeError("The model has no inputs.", mend=EXPORT, where=file.name)
    task = _task(inputs, outputs)
    kinds = _weights_by_format(graph)
    return ModelCard(
        ArtifactFormat.ONNX, task, graph.name or "graph", sum(kinds.values()), _main_format(kinds), inputs, outputs,
        operators=dict(sorted(Counter(n.op_type for n in graph_nodes(graph) if n.op_type != "Constant").items())),
        has_tokenizer=read_tokenizer(file.parent) > 0, notes=_notes(model, task),
        **_sizes(task, graph, inputs, outputs, file.parent),
    )  # fmt: skip


def _check(model: onnx.ModelProto, file: Path) -> None:
    own = {f.domain for f in model.functions}
    strange = sorted({n.domain for n in nodes(model)} - _DOMAINS - own)
    if strange:
        raise IntakeError(
            f"The model uses custom operators of {', '.join(strange)}, which no runtime here has.",
            mend="Export it with standard ONNX operators only.",
            where=file.name,
        )
    opset = _opset(model)
    if opset < _OLDEST_OPSET:
        raise IntakeError(
            f"The model uses ONNX opset {opset}; the runtimes need {_OLDEST_OPSET} or newer.",
            mend="Export it again, or raise it with onnx.version_converter.",
            where=file.name,
        )
    with reading("The ONNX model breaks the format's rules.", mend=EXPORT, where=file.name):
        onnx.checker.check_model(str(file))


def _opset(model: onnx.ModelProto) -> int:
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)


def _spec(value: onnx.ValueInfoProto, name: str) -> TensorSpec:
    dtype = _dtype_name(value.type.tensor_type.elem_type) if value.type.HasField("tensor_type") else ""
    if dtype in ("", "undefined", "string"):
        raise IntakeError(
            f"The input or output {value.name} is no numeric tensor.",
            mend="Export the model with tensors as inputs and outputs, pre- and postprocessing left out.",
            where=name,
        )
    shape = tuple(_dimension(d, i) for i, d in enumerate(value.type.tensor_type.shape.dim))
    return TensorSpec(value.name, dtype, shape)


def _dimension(dim: onnx.TensorShapeProto.Dimension, index: int) -> int | str:
    if dim.dim_value > 0:
        return int(dim.dim_value)
    named = str(dim.dim_param)
    return named if named.isidentifier() else "batch" if index == 0 else f"dim_{index}"


def _dtype_name(kind: int) -> str:
    name = TensorProto.DataType.Name(kind).lower() if kind in TensorProto.DataType.values() else ""
    return {"float": "float32", "double": "float64"}.get(name, name)


def _task(inputs: Specs, outputs: Specs) -> TaskId:
    """A task only where the names and shapes leave no doubt; else generic tensors."""
    names = {i.name for i in inputs}
    first = outputs[0] if outputs else TensorSpec("", "", ())
    classes = first.shape[-1] if len(first.shape) == 2 and isinstance(first.shape[-1], int) else 0
    if "input_ids" in names and names <= _TEXT_INPUTS:
        if first.name == "logits" and 0 < classes <= _MOST_CLASSES:
            return TaskId.TEXT_CLASSIFIER
        if first.name != "logits" and len(first.shape) == 3:
            return TaskId.TEXT_ENCODER
    image = inputs[0]
    is_image = len(inputs) == 1 and image.dtype == "float32" and len(image.shape) == 4 and image.shape[1] in (1, 3)
    if is_image and len(outputs) == 1 and 1 < classes <= _MOST_CLASSES:
        return TaskId.IMAGE_CLASSIFIER
    return TaskId.TENSORS


def _sizes(task: TaskId, graph: onnx.GraphProto, inputs: Specs, outputs: Specs, folder: Path) -> dict[str, int]:
    """What the graph shows; for text also what a config.json beside it says."""
    if task is TaskId.IMAGE_CLASSIFIER:
        _, channels, height, _ = inputs[0].shape
        side = height if isinstance(height, int) else 0
        return {"num_channels": int(channels), "image_size": side, "num_labels": int(outputs[0].shape[-1])}
    if not task.takes_text:
        return {}
    sizes = _embedding(graph)
    if task is TaskId.TEXT_CLASSIFIER:
        sizes["num_labels"] = int(outputs[0].shape[-1])
    if (folder / CONFIG).exists():
        config = SimpleNamespace(**{k: v for k, v in read_json(folder / CONFIG).items() if k.isidentifier()})
        sizes = sizes_of(config, task) | sizes
    return sizes


def _embedding(graph: onnx.GraphProto) -> dict[str, int]:
    """Rows and columns of the table that `input_ids` looks up, as far as a Gather shows it."""
    shapes = {i.name: tuple(i.dims) for i in graph.initializer}
    ids = {"input_ids"}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in ids:
            ids.add(node.output[0])
        if node.op_type == "Gather" and node.input[1] in ids and len(shapes.get(node.input[0], ())) == 2:
            rows, columns = shapes[node.input[0]]
            return {"vocab_size": int(rows), "hidden_size": int(columns)}
    return {}


def _weights_by_format(graph: onnx.GraphProto) -> Counter[int]:
    """Elements of weights by number format: initializers, and Constant nodes."""
    kinds: Counter[int] = Counter()
    constants = (a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value")
    for tensor in (*graph.initializer, *constants):
        if tensor.data_type not in _BOOKKEEPING:
            kinds[tensor.data_type] += math.prod(tensor.dims)
    return kinds


def _main_format(kinds: Counter[int]) -> str:
    return _dtype_name(kinds.most_common(1)[0][0]) if kinds else "none"


def _notes(model: onnx.ModelProto, task: TaskId) -> tuple[str, ...]:
    producer = f"{model.producer_name} {model.producer_version}".strip()
    notes = [f"ONNX opset {_opset(model)}" + (f", made by {producer}." if producer else ".")]
    if any(n.domain == "com.microsoft" for n in nodes(model)):
        notes.append("Uses operators of onnxruntime (com.microsoft) that other runtimes may lack.")
    if task is TaskId.TENSORS:
        notes.append("What it is for cannot be told from its inputs and outputs, so it is compared by its numbers.")
    return tuple(notes)
