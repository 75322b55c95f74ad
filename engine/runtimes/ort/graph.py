"""The fp32 ONNX file of a deployment: exported from the module, or the artifact's own."""

from __future__ import annotations

from pathlib import Path

import onnx

from engine.domain.artifact import ArtifactFormat, TaskId
from engine.domain.deployment import Deployment
from engine.domain.errors import StageError

MODEL = "model.onnx"
LARGEST = 2**31 - 2**24
"""Bytes that fit into one protobuf file."""


def write_graph(deployment: Deployment, directory: Path) -> Path:
    """Write the deployment's fp32 graph to `directory` and return its file.

    Raises StageError when the model cannot be exported or its graph does not load.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / MODEL
    if deployment.card.format is ArtifactFormat.ONNX:
        return save(load(Path(deployment.variant.directory) / MODEL), file)
    # torch only where something is exported: an ONNX artifact needs none
    from engine.runtimes.cached_lm import BufferCacheLM
    from engine.runtimes.export import export_lm, export_module, save_onnx

    if deployment.card.task is TaskId.CAUSAL_LM:
        exported, lm = export_lm(deployment, BufferCacheLM)
        save_onnx(exported, [*lm.inputs, *lm.past_names], ["logits", *lm.present_names], file)
    else:
        card = deployment.card
        save_onnx(export_module(deployment), [s.name for s in card.inputs], [s.name for s in card.outputs], file)
    return file


def load(file: Path) -> onnx.ModelProto:
    """The graph with its weights. Raises StageError when it is damaged."""
    try:
        return onnx.load(str(file))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise StageError(f"{file.name} does not load as ONNX.", where=file.name, detail=str(error)) from error


def save(model: onnx.ModelProto, file: Path) -> Path:
    """Write one file, or a file and its `.data` when the weights exceed what protobuf holds."""
    large = model.ByteSize() > LARGEST
    onnx.save_model(
        model, str(file), save_as_external_data=large, all_tensors_to_one_file=True, location=f"{file.name}.data"
    )
    return file
