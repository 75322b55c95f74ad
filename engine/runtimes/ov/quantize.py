"""NNCF, set up so that its integers are right on the processor at hand."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import nncf
import openvino as ov
from nncf.quantization.advanced_parameters import OverflowFix

from engine.domain.deployment import Deployment, NumberFormat, QuantizationMode
from engine.domain.errors import StageError
from engine.domain.ports import Batch, Context
from engine.host import this_host
from engine.runtimes.guard import Guard, answers_of, divided
from engine.runtimes.ov.compress import compressed
from engine.runtimes.ov.executors import TensorExecutor
from engine.runtimes.proof import Facts

SAMPLES = 128

logging.getLogger("nncf").setLevel(logging.ERROR)


def quantize(model: ov.Model, deployment: Deployment, context: Context) -> tuple[ov.Model, Facts]:
    """The model in the deployment's formats, and facts that the file cannot say. Raises StageError when NNCF cannot."""
    formats = deployment.formats
    if formats.weights in (NumberFormat.BF16, NumberFormat.FP16):
        return model, {}
    with _errors_of(formats.weights):
        if formats.mode is not QuantizationMode.STATIC:
            return compressed(model, deployment, context)
        if formats.fallback:
            return _guarded(model, deployment, context)
        return nncf.quantize(model, _dataset(deployment, context.calibration), **_settings(deployment, context)), {}


def _guarded(model: ov.Model, deployment: Deployment, context: Context) -> tuple[ov.Model, Facts]:
    """NNCF ranks its quantizers by what each costs and takes them out until the quality is met."""
    context, checking = divided(context)
    card, least = deployment.card, deployment.formats.fallback
    guard = Guard(card, checking, answers_of(card, TensorExecutor(ov.compile_model(model, "CPU", _exactly(context))), checking))
    seen: list[float] = []

    def judge(compiled: ov.CompiledModel, _: Any) -> tuple[float, None]:
        seen.append(guard.quality(TensorExecutor(compiled)))
        return seen[-1], None

    made = nncf.quantize_with_accuracy_control(
        model, _dataset(deployment, context.calibration), _dataset(deployment, checking), judge, max_drop=1 - least,
        **_settings(deployment, context),
    )  # fmt: skip
    reached = guard.quality(TensorExecutor(ov.compile_model(made, "CPU", _exactly(context))))
    if reached < least:
        raise StageError(
            f"Quality on calibration data stays at {reached:.4f}, below {least:g}.", mend="Choose a lower fallback or another format."
        )
    return made, {"calibration_quality": round(reached, 5), "calibration_quality_evaluations": len(seen)}


def _settings(deployment: Deployment, context: Context) -> dict[str, Any]:
    """Post-training quantization: SmoothQuant, min-max scales, bias correction."""
    card = deployment.card
    transformer = card.task.takes_text or card.operators.get("Conv2d", 0) <= 1
    saturates = not this_host().has_vnni
    return {
        "model_type": nncf.ModelType.TRANSFORMER if transformer else None,
        "subset_size": min(SAMPLES, len(context.calibration)),
        "advanced_parameters" if not deployment.formats.fallback else "advanced_quantization_parameters":
            nncf.AdvancedQuantizationParameters(
                # pairs of u8×s8 products overflow 16 bits without VNNI; half the weights' range keeps them exact
                overflow_fix=OverflowFix.ENABLE if saturates else OverflowFix.DISABLE,
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=deployment.formats.smooth or -1),
            ),
    }  # fmt: skip


def _dataset(deployment: Deployment, batches: Sequence[Batch]) -> Any:
    names = [spec.name for spec in deployment.card.inputs]
    return nncf.Dataset(list(batches), lambda batch: {name: batch[name] for name in names})


def _exactly(context: Context) -> dict[str, str]:
    return {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(context.threads)}


@contextmanager
def _errors_of(weights: NumberFormat) -> Iterator[None]:
    try:
        yield
    except (nncf.errors.ValidationError, nncf.errors.UnsupportedModelError, RuntimeError, ValueError) as error:
        raise StageError(
            f"NNCF cannot make this model {weights}.", mend="Choose another mode or runtime.", detail=str(error)
        ) from error
