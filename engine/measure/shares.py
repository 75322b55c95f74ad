"""How far a causal LM is from what its host can do: shares of measured peaks (worker side)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.domain.artifact import ModelCard, TaskId
from engine.domain.calibration import Calibration
from engine.domain.deployment import NumberFormat, QuantizationMode
from engine.domain.experiment import StageFacts
from engine.domain.metrics import (
    DECODE_SHARE,
    PREFILL_SHARE,
    TIME_PER_OUTPUT_TOKEN,
    TIME_TO_FIRST_TOKEN,
    Measurement,
    Metric,
)
from engine.domain.workload import Workload
from engine.measure.limits import decode_bytes, prefill_flops


def shares_of_peaks(
    measurements: Sequence[Measurement], facts: Iterable[StageFacts], card: ModelCard, workload: Workload,
    size_bytes: int, calibration: Calibration | None, threads: int,
) -> list[Measurement]:  # fmt: skip
    """Prefill of the peak, decode of the bandwidth; nothing where the host was not calibrated for these threads.

    The peak is that of the number format that the products compute in.
    """
    if calibration is None or card.task is not TaskId.CAUSAL_LM or not card.num_layers:
        return []
    peak, bandwidth = calibration.peak(arithmetic(facts), threads), calibration.bandwidth(threads)
    timed = {m.name: m for m in measurements}
    return [
        *_share(PREFILL_SHARE, timed.get(TIME_TO_FIRST_TOKEN.name), prefill_flops(card, workload), peak),
        *_share(DECODE_SHARE, timed.get(TIME_PER_OUTPUT_TOKEN.name), decode_bytes(card, workload, size_bytes), bandwidth),
    ]


def arithmetic(facts: Iterable[StageFacts]) -> str:
    """Number format of the products, by what the lowering says it settled on; fp32 where only weights are integers."""
    for stage in facts:
        format_, mode = stage.facts.get("format"), stage.facts.get("mode")
        if format_ == NumberFormat.BF16:
            return NumberFormat.BF16
        if format_ in (NumberFormat.INT8, NumberFormat.INT4) and mode in (QuantizationMode.DYNAMIC, QuantizationMode.STATIC):
            return NumberFormat.INT8
    return NumberFormat.FP32


def _share(metric: Metric, timed: Measurement | None, work: float, limit: float | None) -> list[Measurement]:
    if timed is None or not limit or not timed.median:
        return []

    def share(milliseconds: float) -> float:
        return work / (milliseconds / 1e3) / limit

    ci95 = (share(timed.ci95[1]), share(timed.ci95[0])) if timed.ci95 else None
    return [Measurement(metric.name, metric.unit, share(timed.median), ci95, timed.samples)]
