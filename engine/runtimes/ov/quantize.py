"""NNCF, set up so that its integers are right on the processor at hand."""

from __future__ import annotations

import logging
from typing import Any

import nncf
import numpy as np
import openvino as ov
from nncf.quantization.advanced_parameters import OverflowFix

from engine.domain.artifact import ModelCard, TaskId
from engine.domain.deployment import Deployment, NumberFormat, QuantizationMode
from engine.domain.errors import StageError
from engine.domain.ports import Batch, Context
from engine.host import this_host

SAMPLES = 128
INT4_GROUP = 32
SCALE_ESTIMATION_SAMPLES = 32

logging.getLogger("nncf").setLevel(logging.ERROR)


def quantize(model: ov.Model, deployment: Deployment, context: Context) -> ov.Model:
    """The model in the deployment's formats. Raises StageError when NNCF cannot."""
    formats = deployment.formats
    try:
        if formats.weights is NumberFormat.BF16:
            return model
        if formats.mode is QuantizationMode.STATIC:
            return _static(model, deployment, context)
        return _weights(model, deployment, context)
    except (nncf.errors.ValidationError, nncf.errors.UnsupportedModelError, RuntimeError, ValueError) as error:
        raise StageError(
            f"NNCF cannot make this model {formats.weights}.", mend="Choose another mode or runtime.", detail=str(error)
        ) from error


def _static(model: ov.Model, deployment: Deployment, context: Context) -> ov.Model:
    """Post-training quantization: SmoothQuant, min-max scales, bias correction."""
    card = deployment.card
    transformer = card.task.takes_text or card.operators.get("Conv2d", 0) <= 1
    saturates = not this_host().has_vnni
    return nncf.quantize(
        model, _dataset(card, context), model_type=nncf.ModelType.TRANSFORMER if transformer else None,
        subset_size=min(SAMPLES, len(context.calibration)),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            # pairs of u8×s8 products overflow 16 bits without VNNI; half the weights' range keeps them exact
            overflow_fix=OverflowFix.ENABLE if saturates else OverflowFix.DISABLE
        ),
    )  # fmt: skip


def _weights(model: ov.Model, deployment: Deployment, context: Context) -> ov.Model:
    """Integer weights; int4 with scales fitted to real activations and its sensitive ends kept in int8."""
    formats = deployment.formats
    if formats.weights is NumberFormat.INT8:
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    return nncf.compress_weights(
        model, mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=formats.group_size or INT4_GROUP,
        dataset=_dataset(deployment.card, context), scale_estimation=True,
        subset_size=min(SCALE_ESTIMATION_SAMPLES, len(context.calibration)),
    )  # fmt: skip


def _dataset(card: ModelCard, context: Context) -> Any:
    if card.task is TaskId.CAUSAL_LM:
        return nncf.Dataset(list(context.calibration), lm_inputs)
    names = [spec.name for spec in card.inputs]
    return nncf.Dataset(list(context.calibration), lambda batch: {name: batch[name] for name in names})


def lm_inputs(batch: Batch) -> dict[str, Any]:
    """What a stateful causal LM takes for a whole sequence from the start."""
    ids = batch["input_ids"]
    return {"input_ids": ids, "kept": np.arange(ids.shape[1]), "rows": np.arange(ids.shape[0], dtype=np.int32)}
