"""Walking an ONNX model: nodes, tensors and the files its weights lie in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, external_data_helper

from engine.domain.errors import IntakeError
from engine.intake.hostile import reading
from engine.intake.members import safe_path

EXPORT = "Export the model again with torch.onnx.export or optimum-cli."


def load(file: Path) -> onnx.ModelProto:
    """The graph without external data. Raises IntakeError."""
    with reading("This is not an ONNX model, or it is truncated.", mend=EXPORT, where=file.name):
        model = onnx.load(str(file), load_external_data=False)
    if not model.HasField("graph") or not model.graph.node:
        raise IntakeError("The file holds no ONNX graph with operators.", mend=EXPORT, where=file.name)
    return model


def external_files(model: onnx.ModelProto, folder: Path) -> list[str]:
    """Names, relative to the model's folder, of the files that hold its weights.

    Raises IntakeError for one that is missing or too short, or lies outside the folder.
    """
    names = set()
    for tensor in tensors(model):
        if external_data_helper.uses_external_data(tensor):
            names.add(_checked_place(tensor, folder))
    return sorted(names)


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of subgraphs and of the model's own functions too."""
    yield from graph_nodes(model.graph)
    for function in model.functions:
        for node in function.node:
            yield node
            yield from _inner_nodes(node)


def graph_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes of a graph and of its subgraphs."""
    for node in graph.node:
        yield node
        yield from _inner_nodes(node)


def tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor stored in the model, wherever it is."""
    yield from _initializers(model.graph)
    for node in nodes(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from _initializers(graph)


def _inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from graph_nodes(graph)


def _initializers(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def _checked_place(tensor: TensorProto, folder: Path) -> str:
    entries = {e.key: e.value for e in tensor.external_data}
    raw = entries.get("location", "")
    try:
        name = str(safe_path(raw))
    except IntakeError as error:
        raise IntakeError(
            f"The model wants to read weights from outside its folder ({raw[:80]!r}).",
            mend="Save it with external data beside the .onnx file (onnx.save with location='model.onnx.data').",
        ) from error
    file = folder / name
    if not file.is_file():
        raise IntakeError(
            f"The weights file {name} is missing.",
            mend="Upload the .onnx file and its external data together, as a zip or tar.",
        )
    with reading("The place of external data is written wrongly.", mend=EXPORT, where=name):
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or 0)
    if offset < 0 or length < 0 or offset + max(length, 1) > file.stat().st_size:
        raise IntakeError(
            f"The weights file is truncated: {tensor.name} lies beyond its end.",
            mend="Upload the complete file.",
            where=name,
        )
    return name
