"""The percentiles of a run's latency; those that lack samples are greyed, with how many."""

from __future__ import annotations

import streamlit as st

from engine.domain.experiment import Run
from engine.domain.metrics import LATENCY, Metric
from engine.measure.percentiles import FEWEST_SAMPLES, TAILS, missing
from pages.parts.format import plural, plus_minus, value_of


def show_percentiles(run: Run, samples: int) -> None:
    """p50, p90, p95, p99 in a row. samples: how many there are of latency."""
    with st.grid(4, min_column_width=130, gap="small", key="percentiles"):
        for p, metric in ((50, LATENCY), *TAILS.items()):
            _one(run, p, metric, missing(samples, p))


def _one(run: Run, p: int, metric: Metric, lacking: int) -> None:
    found = run.measurement(metric.name)
    if found:
        interval = f"  \n:gray[:small[{plus_minus(found)}]]" if found.ci95 else ""
        st.markdown(f"p{p} **{value_of(metric.name, found.median)}**{interval}")
    elif lacking:
        st.markdown(
            f":gray[p{p} –  \n:small[needs {plural(lacking, 'more sample')}]]",
            help=f"A p{p} from fewer than {FEWEST_SAMPLES[p]} samples would change with every repetition",
        )
    else:
        st.markdown(f":gray[p{p} –  \n:small[not recorded]]")
