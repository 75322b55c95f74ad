"""What is asked of the model, what must be reached, and on which data quality is judged."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from engine.domain.artifact import ModelCard, TaskId
from engine.domain.errors import SpeedrailError
from engine.domain.workload import DatasetRef, Target, TargetMetric, Workload
from pages.parts.datasets import dataset_choice
from pages.parts.forms import config_form, linked_choice
from pages.parts.shell import show_problem

_TARGETS = {
    "none": ("No target", None, "", 1.0),
    "latency": ("Latency at most", TargetMetric.LATENCY, "ms", 1.0),
    "throughput": ("Throughput at least", TargetMetric.THROUGHPUT, "items/s", 1.0),
    "size": ("Size at most", TargetMetric.SIZE, "MB", 1e6),
}
"""Choice to words, metric, unit in the form and the factor to the metric's own unit."""
_GUARD_RAILS: dict[str, tuple[str, float | None]] = {
    "99": ("99 % of the baseline", 0.99), "99.9": ("99.9 % of the baseline", 0.999), "other": ("Another", None),
}  # fmt: skip
_SUGGESTED_BOUND = {"latency": 15.0, "throughput": 100.0, "size": 50.0}
_PROTOCOL = ("rounds", "processes", "round_seconds", "warmup_calls")
_LOAD = ("pattern", "streams", "rate", "latency_bound", "percentile")


@dataclass(frozen=True, slots=True)
class Question:
    """Everything of an experiment but its recipes."""

    workload: Workload
    target: Target | None
    guard_rail: float
    dataset: DatasetRef | None
    calibration: DatasetRef | None
    name: str
    keep_models: bool


def question_form(card: ModelCard) -> Question:
    """Workload, goal and data, with good answers already in place."""
    st.subheader("Workload", anchor=False)
    values = config_form(Workload, asked_of(card))
    with st.expander("Load pattern", key="load", icon=":material/stacked_line_chart:"):
        st.caption(
            "The verdict always rests on calls one after the other. A pattern adds what the model does under load: several "
            "items a query (multi-stream), a sweep of batch sizes up to the one above (offline), Poisson arrivals (server)."
        )
        values |= config_form(Workload, _LOAD)
    st.subheader("Goal", anchor=False)
    with st.grid("auto", min_column_width=150, gap="small", vertical_alignment="bottom"):
        target = _target()
        guard_rail = _guard_rail()
    with st.expander("Data for quality and calibration", key="data", icon=":material/dataset:"):
        st.caption("Without a dataset, real built-in inputs are used; those that calibrate are never scored.")
        dataset = dataset_choice("dataset", "Dataset for quality")
        calibration = dataset_choice("calibration", "Dataset for calibration")
    with st.expander("Name and measurement", key="protocol", icon=":material/tune:"):
        name = st.text_input("Name", key="name", bind="query-params", placeholder="Made from the model and the date", max_chars=200)
        values |= config_form(Workload, _PROTOCOL)
        keep = st.toggle("Keep each run's model for download", value=True, key="keep_models", bind="query-params")
    try:
        workload = Workload.of(values)
    except SpeedrailError as error:
        show_problem(error)
        workload = Workload()
    return Question(workload, target, guard_rail, dataset, calibration, (name or "").strip(), keep)


def asked_of(card: ModelCard) -> tuple[str, ...]:
    """The workload's knobs that this task has a use for."""
    names = ["batch_size"]
    if card.task.takes_text:
        names.append("sequence_length")
    if card.task is TaskId.CAUSAL_LM:
        names += ["new_tokens", "kv_cache"]
    if card.task is TaskId.IMAGE_CLASSIFIER:
        names.append("image_size")
    return (*names, "threads")


def _guard_rail() -> float:
    """MLPerf's two, or any other; a link that names a value means that one."""
    if "guard_rail" in st.query_params and "guard" not in st.query_params:
        st.query_params["guard"] = "other"
    chosen = linked_choice(
        "Guard-rail", list(_GUARD_RAILS), "guard", lambda key: _GUARD_RAILS[key][0],
        help="Least quality retained that passes; the baseline's is 1",
    )  # fmt: skip
    fixed = _GUARD_RAILS[chosen][1]
    if fixed is not None:
        return fixed
    return float(st.number_input("Quality at least", 0.0, 1.0, 0.99, 0.005, format="%.4f", key="guard_rail", bind="query-params"))


def _target() -> Target | None:
    chosen = linked_choice(
        "Target", list(_TARGETS), "target", lambda key: _TARGETS[key][0], help="What a recipe must reach to be recommended"
    )
    _, metric, unit, factor = _TARGETS[chosen]
    if metric is None:
        return None
    bound = st.number_input(
        f"Bound ({unit})", 0.001, None, _SUGGESTED_BOUND[chosen], key=f"bound_{chosen}", bind="query-params", format="%g"
    )
    return Target(metric, bound * factor)
