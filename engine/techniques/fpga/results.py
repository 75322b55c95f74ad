"""The numbers of a placement as measurements, each with its provenance, and the tables its page draws."""

from __future__ import annotations

from engine.domain.codec import as_data
from engine.domain.experiment import Attachment
from engine.domain.metrics import (
    LATENCY,
    THROUGHPUT,
    TIME_PER_OUTPUT_TOKEN,
    TIME_TO_FIRST_TOKEN,
    Measurement,
    Metric,
    Provenance,
)
from engine.domain.ports import Computed, Executor
from engine.fpga.plan_file import PlanFile


def computed_of(plan: PlanFile, executor: Executor | None) -> Computed:
    provenance = Provenance.SIMULATED if plan.executed else Provenance.PROJECTED
    low, high = (bound / plan.seconds for bound in plan.band)

    def measurement(metric: Metric, value: float, band: tuple[float, float]) -> Measurement:
        return Measurement(metric.name, metric.unit, value, (value * band[0], value * band[1]), 1, provenance)

    measurements = [
        measurement(LATENCY, plan.seconds * 1e3, (low, high)),
        measurement(THROUGHPUT, plan.items_per_second, (1 / high, 1 / low)),
    ]
    if plan.decode is not None:
        measurements += [
            measurement(TIME_TO_FIRST_TOKEN, plan.first.seconds * 1e3, (low, high)),
            measurement(TIME_PER_OUTPUT_TOKEN, plan.decode.seconds * 1e3, (low, high)),
        ]
    return Computed(tuple(measurements), executor, attachments_of(plan), _remarks(plan))


def attachments_of(plan: PlanFile) -> tuple[Attachment, ...]:
    data = as_data(plan)
    head = {key: value for key, value in data.items() if key not in ("passes", "resources")}
    return (
        Attachment("fpga_layers", {**head, "passes": data["passes"]}),
        Attachment("fpga_roofline", {**head, "passes": data["passes"]}),
        Attachment("fpga_resources", {**head, "resources": data["resources"]}),
    )


def _remarks(plan: PlanFile) -> tuple[str, ...]:
    if plan.executed:
        return ()
    return ("The model is too large to be executed in integers here, so nothing is known of its quality.",)
