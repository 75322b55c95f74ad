"""Where the time of a call goes, operator by operator, beside the baseline."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import streamlit as st

from engine.compare.causes import longest
from engine.domain.codec import from_data
from engine.domain.operators import OperatorProfile, OperatorTime
from pages.parts.charts.icicle import icicle
from pages.parts.format import MISSING, latency, percent, plain, significant
from pages.parts.theme import palette

_CONFIG = {"displaylogo": False, "displayModeBar": False}


def show(data: Any, baseline: Any | None) -> None:
    """`data` and `baseline` are operator profiles as they were stored."""
    own = from_data(OperatorProfile, data)
    base = from_data(OperatorProfile, baseline) if baseline else None
    st.subheader("Where the time goes", anchor=False)
    st.markdown(plain(_sentence(own, base)))
    with st.grid(2 if base else 1, min_column_width=320, gap="small"):
        for profile, title in ((base, "Baseline"), (own, "This run")):
            if profile is not None:
                with st.container(border=True, gap="xsmall"):
                    st.markdown(f"**{title}**, {profile.source}")
                    st.plotly_chart(
                        icicle(profile, title, palette()), theme=None, config=_CONFIG, key=f"icicle-{title}",
                        alt=f"Time of each operator of a call: {longest(profile)}",
                    )  # fmt: skip
    st.caption(
        "Taken after the timed rounds, with counters on: shares of a call are exact, its sum may exceed the latency that is "
        "reported. Products of matrices are tinted. Click a box to enlarge it."
    )
    st.dataframe(_types(own, base), hide_index=True, row_height=34, height="content", key="operator-types", placeholder=MISSING)
    with st.expander(f"Every operator of this run ({len(own.operators)})"):
        st.dataframe([_row(o, own) for o in own.operators], hide_index=True, row_height=34, key="operators", placeholder=MISSING)


def _sentence(own: OperatorProfile, base: OperatorProfile | None) -> str:
    told = f"Most of a call goes to {longest(own)}"
    return f"{told}; of the baseline's to {longest(base)}." if base else f"{told}."


def _types(own: OperatorProfile, base: OperatorProfile | None) -> list[dict[str, object]]:
    """One row a type of either, the baseline's times beside this run's."""
    times = {name: _by_type(profile) for name, profile in (("own", own), ("base", base)) if profile}
    types = sorted({t for table in times.values() for t in table}, key=lambda t: -max(table.get(t, 0.0) for table in times.values()))
    rows: list[dict[str, object]] = []
    for type_ in types:
        row: dict[str, object] = {"Operator": type_}
        if base:
            row |= {"Baseline, ms": _cell(times["base"].get(type_)), "Baseline, share": _share(times["base"].get(type_), base)}
        rows.append(row | {"This run, ms": _cell(times["own"].get(type_)), "This run, share": _share(times["own"].get(type_), own)})
    return rows


def _by_type(profile: OperatorProfile) -> dict[str, float]:
    times: dict[str, float] = defaultdict(float)
    for operator in profile.operators:
        times[operator.type] += operator.ms
    return times


def _cell(ms: float | None) -> str:
    return MISSING if ms is None else significant(ms)


def _share(ms: float | None, profile: OperatorProfile) -> str:
    return MISSING if ms is None else percent(ms / profile.total_ms if profile.total_ms else 0.0, 1)


def _row(operator: OperatorTime, profile: OperatorProfile) -> dict[str, object]:
    return {
        "Operator": operator.type, "Name": operator.name, "Layer": operator.layer, "Calls": operator.calls,
        "Self time": latency(operator.ms), "Share": percent(profile.share(operator), 1), "Kernel": operator.kernel,
        "Format": operator.precision, "Inputs": " · ".join("×".join(map(str, shape)) for shape in operator.shapes),
    }  # fmt: skip
