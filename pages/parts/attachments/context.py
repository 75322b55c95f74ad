"""A causal LM against the length of its context."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.domain.codec import from_data
from engine.domain.evidence import ContextPoint
from pages.parts.charts.context import memory_against_context
from pages.parts.format import latency, plain, size
from pages.parts.theme import palette

_CONFIG = {"displaylogo": False, "displayModeBar": False}


def show(data: Any, baseline: Any | None) -> None:
    """`data`: {"kv_cache": static or dynamic, "points": ContextPoints}."""
    series = {"this run": _points(data)} | ({"baseline": _points(baseline)} if baseline else {})
    st.subheader("Memory against context", anchor=False)
    st.markdown(plain(_sentence(series["this run"], str(data["kv_cache"]))))
    with st.container(border=True):
        st.plotly_chart(
            memory_against_context(series, palette()), theme=None, config=_CONFIG, key="context",
            alt="Memory of the process at growing lengths of context",
        )  # fmt: skip
        st.caption("Resident memory of the process during a generation that ends at this context, measured after the timed rounds.")


def _points(data: Any) -> tuple[ContextPoint, ...]:
    return from_data(tuple[ContextPoint, ...], data["points"])


def _sentence(points: tuple[ContextPoint, ...], cache: str) -> str:
    first, last = points[0], points[-1]
    grown = last.memory_bytes - first.memory_bytes
    return (
        f"With a {cache} KV cache, {last.context} tokens of context take {size(max(0, grown))} more than {first.context}; "
        f"a further token takes {latency(last.token_ms)} there instead of {latency(first.token_ms)}."
    )
