"""What a run does under load."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.domain.codec import from_data
from engine.domain.load import LoadPoint, LoadResult, Pattern
from pages.parts.charts.load import load_curves
from pages.parts.format import MISSING, latency, plain, significant
from pages.parts.theme import palette

_CONFIG = {"displaylogo": False, "displayModeBar": False}


def show(data: Any, baseline: Any | None) -> None:
    """`data` and `baseline` are load results as they were stored."""
    own = from_data(LoadResult, data)
    results = {"this run": own} | ({"baseline": from_data(LoadResult, baseline)} if baseline else {})
    look = palette()
    colours = {"this run": look.primary if look.name == "light" else look.faster, "baseline": look.muted}
    st.subheader(f"Under load: {words(own.pattern)}", anchor=False)
    st.markdown(plain(sentence(own)))
    with st.container(border=True):
        st.plotly_chart(load_curves(results, colours, look), theme=None, config=_CONFIG, key="load-curves", alt=sentence(own))
        st.caption(caption(own))
    for remark in own.remarks:
        st.caption(plain(remark))
    st.dataframe([_row(p, own) for p in own.points], hide_index=True, row_height=34, key="load-points", placeholder=MISSING)


def words(pattern: Pattern) -> str:
    return str(pattern).replace("_", "-")


def sentence(result: LoadResult) -> str:
    """What the pattern asks, answered."""
    best = result.best
    bound = f"latency p{result.percentile} within {latency(result.bound_ms)}"
    if best is None:
        return f"No rate that was tried keeps {bound}."
    if result.pattern is Pattern.SERVER:
        told = f"{significant(best.rate)} queries a second arrive at random with {bound}"
        return f"{told}." if len(result.points) == 1 else f"At most {told}."
    if result.pattern is Pattern.OFFLINE:
        return f"The most throughput is {significant(best.throughput)} items a second, at batch {best.batch}."
    reached = best.latencies.get(result.percentile)
    return f"Queries of {best.batch} items are answered within {latency(reached)} (p{result.percentile}), {significant(best.throughput)} items a second."


def caption(result: LoadResult) -> str:
    if result.pattern is Pattern.SERVER:
        return (
            "Poisson arrivals from a fixed seed; latency runs from the moment a query is due, so that waiting counts. Hollow marks "
            "miss the bound; latencies beyond four bounds are drawn at the edge."
        )
    if result.pattern is Pattern.OFFLINE:
        return "Every batch size was lowered and opened on its own; all items are there at the beginning."
    return "The next query comes when all items of the one before are answered."


def _row(point: LoadPoint, result: LoadResult) -> dict[str, object]:
    row: dict[str, object] = {"Offered, queries/s": significant(point.rate)} if point.rate else {}
    row |= {"Batch": point.batch, "Throughput, items/s": significant(point.throughput)}
    if result.pattern is not Pattern.OFFLINE:
        row |= {f"p{p}, ms": significant(point.latencies[p]) if p in point.latencies else MISSING for p in (50, 90, 95, 99)}
    row["Queries"] = point.queries
    if point.meets is not None:
        row["Bound"] = "met" if point.meets else "missed"
    return row
