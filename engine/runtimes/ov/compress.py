"""Weights as integers, by NNCF: int8 a channel, int4 a group, calibrated and mixed by sensitivity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import nncf
import numpy as np
import openvino as ov
from nncf import AdvancedCompressionParameters, CompressWeightsMode
from nncf.quantization.advanced_parameters import GroupSizeFallbackMode

from engine.domain.artifact import ArtifactFormat, TaskId
from engine.domain.deployment import Deployment, NumberFormat, WeightCalibration
from engine.domain.errors import StageError
from engine.domain.experiment import Progress
from engine.domain.ports import Batch, Context
from engine.runtimes.guard import Guard, answers_of, boldest, divided
from engine.runtimes.ov.executors import LmExecutor
from engine.runtimes.proof import Facts

GROUP = 32
SMALLEST_GROUP = 16
SAMPLES = 32
"""Calibration batches that fit scales; more make little difference and each costs seconds."""
RATIOS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)
"""Shares of int4 that fallback tries, boldest first."""


def compressed(model: ov.Model, deployment: Deployment, context: Context) -> tuple[ov.Model, Facts]:
    """Integer weights in place of `model`'s. Raises StageError when fallback cannot be met."""
    formats = deployment.formats
    if formats.weights is NumberFormat.INT8:
        return nncf.compress_weights(model, mode=CompressWeightsMode.INT8_SYM), {}
    calibration = _settled(formats.calibration)
    facts: Facts = {"calibration": str(calibration), "ratio": formats.ratio}
    deployment = deployment.with_(formats=replace(formats, calibration=calibration))
    if not formats.fallback:
        return _int4(model, deployment, context, formats.ratio), facts
    made, more = _guarded(model, deployment, context)
    return made, facts | more


def _settled(calibration: WeightCalibration) -> WeightCalibration:
    return WeightCalibration.SCALE_ESTIMATION if calibration is WeightCalibration.AUTO else calibration


def _int4(model: ov.Model, deployment: Deployment, context: Context, ratio: float) -> ov.Model:
    """Asymmetric int4; embedding and head, and the most sensitive layers when `ratio` is below 1, get int8."""
    formats = deployment.formats
    chosen = formats.calibration
    calibrated = chosen is not WeightCalibration.NONE
    needed = calibrated or ratio < 1
    return nncf.compress_weights(
        model, mode=CompressWeightsMode.INT4_ASYM, ratio=ratio, group_size=formats.group_size or GROUP,
        dataset=_dataset(deployment, context.calibration) if needed else None,
        awq=chosen is WeightCalibration.AWQ or None, gptq=chosen is WeightCalibration.GPTQ or None,
        scale_estimation=chosen is WeightCalibration.SCALE_ESTIMATION or None,
        subset_size=min(SAMPLES, len(context.calibration)),
        advanced_parameters=AdvancedCompressionParameters(
            group_size_fallback_mode=GroupSizeFallbackMode.ADJUST, min_adjusted_group_size=SMALLEST_GROUP
        ),
    )  # fmt: skip


def _guarded(model: ov.Model, deployment: Deployment, context: Context) -> tuple[ov.Model, Facts]:
    """The largest share of int4 at which calibration items that nothing was fitted to score `fallback`."""
    context, checking = divided(context)
    card, least = deployment.card, deployment.formats.fallback
    ratios = [ratio for ratio in RATIOS if ratio <= deployment.formats.ratio]
    guard = Guard(card, checking, answers_of(card, _opened(model, context), checking))
    made: dict[int, ov.Model] = {}
    found: dict[int, float] = {}

    def meets(index: int) -> bool:
        context.report(Progress(f"Trying int4 for {ratios[index]:.0%} of the weights", 0.5))
        made[index] = _int4(model.clone(), deployment, context, ratios[index])
        found[index] = guard.quality(_opened(made[index], context))
        return found[index] >= least

    index = boldest(len(ratios), meets)
    if index is None:
        raise StageError(f"Even int8 weights alone score below {least:g}.", mend="Choose a lower fallback.")
    return made[index], {"ratio": ratios[index], "calibration_quality": round(found[index], 5)}


def _opened(model: ov.Model, context: Context) -> LmExecutor:
    settings = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "INFERENCE_NUM_THREADS": str(context.threads)}
    return LmExecutor(ov.compile_model(model, "CPU", settings))


def _dataset(deployment: Deployment, batches: Sequence[Batch]) -> Any:
    card = deployment.card
    if card.task is TaskId.CAUSAL_LM and card.format is not ArtifactFormat.ONNX:
        return nncf.Dataset(list(batches), lm_inputs)
    names = [spec.name for spec in card.inputs]
    return nncf.Dataset(list(batches), lambda batch: {name: batch[name] for name in names})


def lm_inputs(batch: Batch) -> dict[str, Any]:
    """What a stateful causal LM takes for a whole sequence from the start."""
    ids = batch["input_ids"]
    return {"input_ids": ids, "kept": np.arange(ids.shape[1]), "rows": np.arange(ids.shape[0], dtype=np.int32)}
