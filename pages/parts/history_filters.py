"""History's filters: each one a part of the URL, each one removable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import streamlit as st

from engine.catalogue import TECHNIQUES
from engine.domain.experiment import RunStatus
from engine.domain.metrics import METRICS
from storage import Storage
from storage.views import RunFilter

_SORTS = {
    "created_at": "Newest", "speedup": "Speedup", "latency": "Latency", "latency_p90": "Latency p90", "throughput": "Throughput",
    "quality": "Quality", "peak_memory": "Peak memory", "size": "Size",
}  # fmt: skip
_RANGES = {"speedup": ("Speedup", "×", 1.0), "latency": ("Latency", "ms", 1.0), "quality": ("Quality", "", 1.0),
           "peak_memory": ("Peak memory", "MB", 1e6), "size": ("Size", "MB", 1e6)}  # fmt: skip
_LOWER_FIRST = {"latency", "latency_p90", "peak_memory", "size"}


@dataclass(frozen=True, slots=True)
class Query:
    """What History asks of storage."""

    filter: RunFilter
    sort: str
    descending: bool

    @property
    def is_filtered(self) -> bool:
        return self.filter != RunFilter()


def show(storage: Storage) -> Query:
    """Draw the filters; everything they hold is in the URL."""
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        text = st.text_input(
            "Search", placeholder="Recipe, model, name, note or tag", icon=":material/search:", key="text", bind="query-params"
        )
        sort = st.selectbox("Sort by", list(_SORTS), format_func=_SORTS.__getitem__, key="sort", bind="query-params", width=170)
        worst_first = st.toggle("Reverse", key="reverse", bind="query-params")
    with st.expander("Filters", expanded=_any_set()):
        chosen = _fields(storage, text or "")
    descending = (sort not in _LOWER_FIRST) is not worst_first
    return Query(chosen, sort, descending)


def _any_set() -> bool:
    return any(key in st.query_params for key in ("model", "technique", "status", "from", "to", "tag", "metric"))


def _fields(storage: Storage, text: str) -> RunFilter:
    models = {a.artifact.id: a.artifact.name for a in storage.artifacts.list("", 0, 200).items}
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        model = st.selectbox(
            "Model", ["", *models], format_func=lambda i: models.get(i, "Any"), key="model", bind="query-params", width=220
        )
        technique = st.selectbox(
            "Technique", ["", *(str(s.id) for s in TECHNIQUES)], format_func=lambda t: t or "Any", key="technique",
            bind="query-params", width=170,
        )  # fmt: skip
        statuses = st.multiselect("Status", [str(s) for s in RunStatus], key="status", bind="query-params", width=260)
        tag = st.text_input("Tag", key="tag", bind="query-params", width=140)
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        since = st.date_input("From", value=None, key="from", bind="query-params", width=150)
        until = st.date_input("To", value=None, key="to", bind="query-params", width=150)
        metric = st.selectbox(
            "Metric", ["", *_RANGES], format_func=lambda m: _RANGES[m][0] if m else "Any", key="metric", bind="query-params", width=150
        )
        ranges = _range(metric) if metric else {}
    return RunFilter(
        text=text, artifact_id=model or "", technique=technique or "", statuses=tuple(RunStatus(s) for s in statuses),
        created_from=datetime.combine(since, time.min, UTC) if since else None,
        created_to=datetime.combine(until + timedelta(days=1), time.min, UTC) if until else None,
        tag=tag or "", metric_ranges=ranges,
    )  # fmt: skip


def _range(metric: str) -> dict[str, tuple[float | None, float | None]]:
    _, unit, scale = _RANGES[metric]
    label = f", {unit}" if unit else ""
    low = st.number_input(f"At least{label}", value=None, key="low", bind="query-params", width=130)
    high = st.number_input(f"At most{label}", value=None, key="high", bind="query-params", width=130)
    if low is None and high is None:
        return {}
    return {metric: (low * scale if low is not None else None, high * scale if high is not None else None)}


assert set(_RANGES) - {"speedup"} <= set(METRICS)
