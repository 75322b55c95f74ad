"""ONNX models: checked by onnx's own checker, external data kept inside their folder."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from onnx import TensorProto, external_data_helper

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId, TensorSpec
from engine.domain.errors import IntakeError
from engine.intake.hostile import reading
from engine.intake.members import safe_path
from engine.intake.tokenizer import read_tokenizer

_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_OLDEST_OPSET = 7
_MOST_CLASSES = 100_000
_EXPORT = "Export the model again with torch.onnx.export or optimum-cli."
_BOOKKEEPING = frozenset({TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING, TensorProto.UNDEFINED})
"""Number formats of shapes, indices and flags; all else counts as parameters."""


def load(file: Path) -> onnx.ModelProto:
    """The graph without external data. Raises IntakeError."""
    with reading("This is not an ONNX model, or it is truncated.", mend=_EXPORT, where=file.name):
        model = onnx.load(str(file), load_external_data=False)
    if not model.HasField("graph") or not model.graph.node:
        raise IntakeError("The ONNX model has no operators.", mend=_EXPORT, where=file.name)
    return model


def external_files(file: Path) -> list[str]:
    """Names, relative to the model's folder, of the files that hold its weights, all of them there.

    Raises IntakeError for one that is missing, or that lies outside the folder.
    """
    names = {_location(tensor, file.name) for tensor in _external(load(file))}
    for name in sorted(names):
        if not (file.parent / name).is_file():
            raise IntakeError(
                f"The weights file {name} is missing.",
                mend="Upload the .onnx file and its external data together, as a zip or tar.",
                where=file.name,
            )
    return sorted(names)


def inspect(file: Path) -> ModelCard:
    """The card of an ONNX model. Raises IntakeError."""
    model = load(file)
    external_files(file)
    _check_external_sizes(model, file)
    _check(model, file.name)
    graph = model.graph
    weights = {i.name for i in graph.initializer}
    inputs = tuple(_spec(v) for v in graph.input if v.name not in weights)
    outputs = tuple(_spec(v) for v in graph.output)
    _refuse_strange_values(inputs + outputs, file.name)
    sizes = _sizes(graph, inputs, outputs)
    task = _task(inputs, outputs, sizes)
    if task is not TaskId.IMAGE_CLASSIFIER:
        sizes |= {"image_size": 0, "num_channels": 0}
    if task not in (TaskId.IMAGE_CLASSIFIER, TaskId.TEXT_CLASSIFIER):
        sizes["num_labels"] = 0
    kinds = _weights_by_format(graph)
    return ModelCard(
        ArtifactFormat.ONNX, task, graph.name or "graph", sum(kinds.values()), _main_format(kinds), inputs, outputs,
        operators=_operators(graph), has_tokenizer=read_tokenizer(file.parent) > 0, notes=_notes(model), **sizes,
    )  # fmt: skip


def _check(model: onnx.ModelProto, name: str) -> None:
    own = {f.domain for f in model.functions}
    strange = sorted({n.domain for n in _nodes(model)} - _DOMAINS - own)
    if strange:
        raise IntakeError(
            f"The model uses custom operators of {', '.join(strange)}, which no runtime here has.",
            mend="Export it with standard ONNX operators only.",
            where=name,
        )
    opset = _opset(model)
    if opset < _OLDEST_OPSET:
        raise IntakeError(
            f"The model uses ONNX opset {opset}; the runtimes need {_OLDEST_OPSET} or newer.",
            mend="Export it again, or raise it with onnx.version_converter.",
            where=name,
        )
    with reading("The ONNX model breaks the format's rules.", mend=_EXPORT, where=name):
        onnx.checker.check_model(model)


def _opset(model: onnx.ModelProto) -> int:
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from _nodes_of(model.graph.node)
    for function in model.functions:
        yield from _nodes_of(function.node)


def _nodes_of(nodes: Any) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes_of(graph.node)


def _external(model: onnx.ModelProto) -> Iterator[TensorProto]:
    return (t for t in _tensors(model) if external_data_helper.uses_external_data(t))


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    yield from _initializers(model.graph)
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from _initializers(graph)


def _initializers(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def _entries(tensor: TensorProto) -> dict[str, str]:
    return {e.key: e.value for e in tensor.external_data}


def _location(tensor: TensorProto, model_name: str) -> str:
    raw = _entries(tensor).get("location", "")
    try:
        path = safe_path(raw)
    except IntakeError as error:
        raise IntakeError(
            f"The model wants to read weights from outside its folder ({raw[:80]!r}).",
            mend="Save it with external data beside the .onnx file (onnx.save with location='model.onnx.data').",
            where=model_name,
        ) from error
    return str(PurePosixPath(path))


def _check_external_sizes(model: onnx.ModelProto, file: Path) -> None:
    for tensor in _external(model):
        name, entries = _location(tensor, file.name), _entries(tensor)
        with reading("External data is described wrongly.", mend=_EXPORT, where=file.name):
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
            there = (file.parent / name).stat().st_size
        if offset < 0 or length < 0 or offset + length > there or offset >= there:
            raise IntakeError(
                f"The weights file {name} is truncated: {tensor.name} lies beyond its end.",
                mend="Upload the complete file.",
                where=name,
            )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    named = [d.dim_param or (d.dim_value if d.HasField("dim_value") else "") for d in kind.shape.dim]
    shape = tuple(d if isinstance(d, int) and d > 0 else str(d or f"dim_{i}") for i, d in enumerate(named))
    return TensorSpec(value.name, _dtype_name(kind.elem_type) if value.type.HasField("tensor_type") else "", shape)


def _dtype_name(kind: int) -> str:
    name = TensorProto.DataType.Name(kind).lower() if kind in TensorProto.DataType.values() else ""
    return {"float": "float32", "double": "float64"}.get(name, name)


def _refuse_strange_values(values: tuple[TensorSpec, ...], name: str) -> None:
    for value in values:
        if value.dtype in ("", "undefined", "string"):
            raise IntakeError(
                f"The input or output {value.name} is no numeric tensor.",
                mend="Export the model with tensors as inputs and outputs, pre- and postprocessing left out.",
                where=name,
            )


def _sizes(graph: onnx.GraphProto, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> dict[str, int]:
    vocabulary, hidden = _embedding(graph)
    last = outputs[0].shape[-1] if outputs and outputs[0].shape else 0
    image = inputs[0].shape if len(inputs) == 1 and len(inputs[0].shape) == 4 else ()
    channels, height = (image[1], image[2]) if image else (0, 0)
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_labels": last if isinstance(last, int) else 0,
        "num_channels": channels if isinstance(channels, int) else 0,
        "image_size": height if isinstance(height, int) else 0,
    }


def _embedding(graph: onnx.GraphProto) -> tuple[int, int]:
    """Rows and columns of the table that `input_ids` looks up, as far as a Gather shows it."""
    shapes = {i.name: tuple(i.dims) for i in graph.initializer}
    ids = {"input_ids"}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in ids:
            ids.add(node.output[0])
        if node.op_type == "Gather" and node.input[1] in ids and len(shapes.get(node.input[0], ())) == 2:
            rows, columns = shapes[node.input[0]]
            return int(rows), int(columns)
    return 0, 0


def _task(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], sizes: dict[str, int]) -> TaskId:
    names = {i.name for i in inputs}
    first = outputs[0].shape if outputs else ()
    if "input_ids" in names and names <= {"input_ids", "attention_mask", "token_type_ids"}:
        if len(first) == 2 and 0 < sizes["num_labels"] <= _MOST_CLASSES and outputs[0].name == "logits":
            return TaskId.TEXT_CLASSIFIER
        if len(first) == 3 and outputs[0].name != "logits":
            return TaskId.TEXT_ENCODER
    is_image = len(inputs) == 1 and len(inputs[0].shape) == 4 and inputs[0].dtype == "float32"
    if is_image and sizes["num_channels"] in (1, 3) and len(outputs) == 1 and len(first) == 2:
        return TaskId.IMAGE_CLASSIFIER if 1 < sizes["num_labels"] <= _MOST_CLASSES else TaskId.TENSORS
    return TaskId.TENSORS


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


def _operators(graph: onnx.GraphProto) -> dict[str, int]:
    return dict(sorted(Counter(n.op_type for n in _nodes_of(graph.node) if n.op_type != "Constant").items()))


def _notes(model: onnx.ModelProto) -> tuple[str, ...]:
    producer = f"{model.producer_name} {model.producer_version}".strip()
    notes = [f"ONNX opset {_opset(model)}" + (f", made by {producer}." if producer else ".")]
    if any(n.domain == "com.microsoft" for n in _nodes(model)):
        notes.append("Uses operators of onnxruntime (com.microsoft) that other runtimes may lack.")
    return tuple(notes)
