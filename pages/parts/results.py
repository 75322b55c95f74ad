"""The result of an experiment: sentence, headline numbers, plot, table, bars, reasons."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from engine.domain.experiment import RunStatus
from engine.domain.metrics import METRICS
from pages.parts import experiment_load, tables
from pages.parts.charts.bars import metric_bars
from pages.parts.charts.speedup_quality import speedup_quality
from pages.parts.charts.style import CHART_CONFIG
from pages.parts.comparison import Comparison, Row
from pages.parts.format import latency, plain, plus_minus, ratio, share, significant, size
from pages.parts.shell import empty_state
from pages.parts.theme import palette

_FILTERS = ("Faster", "Not distinguishable", "Slower", "Below guard-rail")


def show(comparison: Comparison) -> None:
    if not comparison.succeeded:
        if not comparison.unfinished:
            _reasons(comparison)
        elif not comparison.without_result:
            st.skeleton(height=400)
        return
    st.markdown(plain(comparison.recommendation.sentence))
    for sentence in comparison.unlike:
        st.error(f"{plain(sentence)} Speedups stand: each is over a baseline measured beside it.", icon=":material/balance:")
    for remark in comparison.shared_remarks:
        st.warning(plain(remark), icon=":material/monitor_heart:")
    _headline(comparison)
    _plot(comparison)
    _table(comparison)
    experiment_load.show(comparison)
    _reasons(comparison)
    _bars(comparison)


def _headline(comparison: Comparison) -> None:
    shown = comparison.pick or comparison.baseline
    if shown is None:
        return
    base = comparison.baseline if comparison.baseline is not shown else None
    with st.grid(4, min_column_width=150, gap="small", key="headline"):
        st.metric(
            "Speedup", ratio(shown.speedup), delta=plus_minus(shown.run.speedup) or None, delta_color="off",
            delta_arrow="off", delta_description=shown.run.provenance.interval if shown.run.speedup else "the baseline", border=True,
        )  # fmt: skip
        _difference("Latency", shown, base, "latency", latency)
        quality = comparison.headline_quality
        st.metric(
            "Quality retained", share(shown.quality), border=True, delta_color="off", delta_arrow="off",
            delta=f"{'≥' if shown.acceptable else '<'} {share(comparison.experiment.guard_rail)}",
            delta_description="guard-rail: pass" if shown.acceptable else "guard-rail: fail",
            help=f"{METRICS[quality.name].title}: {significant(quality.median, 4)}" if quality else None,
        )  # fmt: skip
        _difference("Peak memory", shown, base, "peak_memory", size)


def _difference(title: str, shown: Row, base: Row | None, metric: str, words: object) -> None:
    spell = words if callable(words) else str
    value = shown.run.value(metric)
    before = base.run.value(metric) if base else None
    delta = None
    colour: Literal["blue", "orange"] = "blue"
    if value is not None and before is not None:
        # an ASCII minus, by which st.metric tells the direction
        delta = ("+" if value > before else "-") + spell(abs(value - before))
        colour = "orange" if value > before else "blue"
    st.metric(
        title, spell(value), delta=delta, delta_color=colour, border=True,
        delta_description=f"from {spell(before)}" if before is not None else None,
    )  # fmt: skip


def _plot(comparison: Comparison) -> None:
    marks = comparison.marks()
    if not marks:
        return
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"**{plain(comparison.chart_title)}**")
        st.caption(
            "Filled marks: measured, with 95 % intervals over interleaved rounds. Hollow marks: not measured, with their error band. "
            "Click a point to open its run."
        )
        picked = st.plotly_chart(
            speedup_quality(marks, comparison.experiment.guard_rail, palette()), theme=None, key="speedup_quality",
            on_select="rerun", selection_mode="points", config=CHART_CONFIG, alt=comparison.chart_title,
        )  # fmt: skip
    points = picked["selection"]["points"] if picked else []
    if points and points[0].get("customdata"):
        st.switch_page("pages/run.py", query_params={"id": points[0]["customdata"][0]})


def _table(comparison: Comparison) -> None:
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.subheader("Runs", anchor=False, width="content")
        chosen = st.pills(
            "Show only", _FILTERS, selection_mode="multi", label_visibility="collapsed", key="verdicts", bind="query-params"
        )
    rows = [r for r in comparison.succeeded if not chosen or r.verdict in chosen or r.run.is_baseline]
    selected = tables.runs_table(rows, key="runs_table")
    tables.selection_actions([row.run.id for row in selected], same_experiment=True)


def _bars(comparison: Comparison) -> None:
    metrics = comparison.bar_metrics()
    if not metrics:
        return
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.subheader("Metrics", anchor=False, width="content")
        name = st.selectbox(
            "Metric", metrics, format_func=lambda n: METRICS[n].title, label_visibility="collapsed", width=240,
            key="metric", bind="query-params",
        )  # fmt: skip
    with st.container(border=True):
        st.caption(METRICS[name].help or METRICS[name].title)
        st.plotly_chart(
            metric_bars(comparison.bars(name), palette()), theme=None, key="bars", config=CHART_CONFIG, alt=METRICS[name].title
        )


def _reasons(comparison: Comparison) -> None:
    rows = comparison.without_result
    if not rows:
        if not comparison.rows:
            empty_state("This experiment has no runs.", "Start a new one.", icon=":material/science:")
        return
    st.subheader("Without a result", anchor=False)
    with st.container(border=True):
        for row in rows:
            _reason(row)


def _reason(row: Row) -> None:
    colour: Literal["red", "gray"] = "red" if row.run.status is RunStatus.FAILED else "gray"
    why = " ".join(f"{p.what} {p.mend}" for p in row.run.problems)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.badge(str(row.run.status).capitalize(), color=colour)
        st.page_link("pages/run.py", label=plain(row.words), query_params={"id": row.run.id}, width="content")
        st.caption(plain(why) or "No reason was recorded.")
