"""The fp32 openvino model of a deployment: converted from the module, or the artifact's ONNX."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as opset
from openvino._offline_transformations import apply_make_stateful_transformation

from engine.domain.artifact import ArtifactFormat, TaskId
from engine.domain.deployment import Deployment
from engine.domain.errors import StageError
from engine.runtimes.cached_lm import CachedLM, GrowingCacheLM
from engine.runtimes.export import export_lm, export_module, shape_of


def build(deployment: Deployment) -> ov.Model:
    """An openvino model with the workload's shapes (a causal LM: with its cache as state).

    Raises StageError when the model cannot be converted.
    """
    card = deployment.card
    if card.task is TaskId.CAUSAL_LM and card.format is not ArtifactFormat.ONNX:
        exported, lm = export_lm(deployment, GrowingCacheLM)
        return _stateful(_converted(exported), lm)
    if card.format is ArtifactFormat.ONNX:
        model = _converted(Path(deployment.variant.directory) / "model.onnx")
    else:
        model = _converted(export_module(deployment))
        _name(model, [s.name for s in card.inputs], [s.name for s in card.outputs])
    shapes = {spec.name: list(shape_of(spec, card, deployment.workload)) for spec in card.inputs}
    try:
        model.reshape(shapes)
    except RuntimeError as error:
        raise StageError(
            "The model cannot take this workload's shapes.", mend="Choose the sizes that its inputs name.", detail=str(error)
        ) from error
    return model


def _converted(source: Any) -> ov.Model:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ov.convert_model(source, verbose=False)
    except Exception as error:
        raise StageError(
            "openvino cannot convert this model.", mend="Run it on another runtime.", detail=str(error)
        ) from error


def _name(model: ov.Model, inputs: list[str], outputs: list[str]) -> None:
    for port, name in zip(model.inputs, inputs, strict=True):
        port.get_tensor().set_names({name})
    for port, name in zip(model.outputs, outputs, strict=True):
        port.get_tensor().set_names({name})


def _stateful(model: ov.Model, lm: CachedLM) -> ov.Model:
    """The cache becomes the model's own variables, which openvino updates in place."""
    _name(model, [*lm.inputs, *lm.past_names], ["logits", *lm.present_names])
    shapes: dict[str, list[int]] = {"input_ids": [lm.batch, -1], "kept": [-1], "rows": [lm.batch]}
    shapes |= {name: [lm.batch, heads, -1, size] for name, (heads, size) in zip(lm.past_names, lm.cache_shapes, strict=True)}
    model.reshape(shapes)
    apply_make_stateful_transformation(model, dict(zip(lm.past_names, lm.present_names, strict=True)))
    _start_empty(model)
    model.validate_nodes_and_infer_types()
    return model


def _start_empty(model: ov.Model) -> None:
    """Give every variable zero positions to begin with; without a start openvino refuses to fuse it with attention."""
    ids = opset.shape_of(model.input("input_ids"), output_type="i64")
    batch = opset.gather(ids, opset.constant(np.array([0])), opset.constant(0))
    for node in model.get_ops():
        if node.get_type_name() == "ReadValue":
            _, heads, _, size = node.get_output_partial_shape(0)
            rest = [opset.constant(np.array([n.get_min_length()], np.int64)) for n in (heads, ov.Dimension(0), size)]
            shape = opset.concat([batch, *rest], axis=0)
            node.set_arguments([opset.broadcast(opset.constant(np.float32(0)), shape)])
