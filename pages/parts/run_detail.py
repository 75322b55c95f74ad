"""One run in depth: numbers with intervals, stages with their facts, latencies, log."""

from __future__ import annotations

import streamlit as st

from engine.compare.headroom import headroom
from engine.domain.experiment import Round, Run, StageFacts
from engine.domain.metrics import METRICS, Measurement, Provenance
from engine.measure.outliers import Outlier, count_outliers
from pages.parts import attachments
from pages.parts.charts.distribution import latency_distribution, latency_over_time
from pages.parts.charts.style import CHART_CONFIG
from pages.parts.download import samples_button
from pages.parts.format import MISSING, duration, plain, plus_minus, ratio, share, significant, size, value_of
from pages.parts.percentiles import show_percentiles
from pages.parts.shell import resources
from pages.parts.theme import palette


def show(run: Run, baseline: Run | None, guard_rail: float) -> None:
    if run.measurements:
        _headline(run, guard_rail)
        if far := headroom(run):
            st.markdown(plain(far))
        _distribution(run, baseline)
    for remark in run.remarks:
        st.info(plain(remark), icon=":material/info:")
    attachments.show(run, baseline)
    if run.facts:
        _stages(run)
    if run.measurements:
        _measurements(run)
    _about(run)
    _annotations(run)
    _log(run)


def _headline(run: Run, guard_rail: float) -> None:
    with st.grid(4, min_column_width=150, gap="small", key="headline"):
        speedup = ratio(1.0 if run.is_baseline else run.speedup.median if run.speedup else None)
        st.metric(
            "Speedup", speedup, border=True, delta=plus_minus(run.speedup) or None, delta_color="off", delta_arrow="off",
            delta_description=str(run.verdict) if run.verdict else "the baseline" if run.is_baseline else run.provenance.interval,
        )  # fmt: skip
        for name in ("latency", "quality", "peak_memory"):
            found = run.measurement(name)
            st.metric(
                METRICS[name].title, value_of(name, found.median if found else None), border=True,
                delta=plus_minus(found) or None, delta_color="off", delta_arrow="off",
                delta_description=_passes(found.median, guard_rail) if found and name == "quality" else _interval(found),
                help=f"Passes from {share(guard_rail)} on" if name == "quality" else None,
            )  # fmt: skip


def _passes(quality: float, guard_rail: float) -> str:
    return f"guard-rail: {'pass' if quality >= guard_rail else 'fail'}"


def _interval(found: Measurement | None) -> str | None:
    return found.provenance.interval if found and found.ci95 else None


def _distribution(run: Run, baseline: Run | None) -> None:
    samples = {"this run": _latencies(resources().storage.runs.rounds(run.id))}
    if baseline:
        samples["baseline"] = _latencies(resources().storage.runs.rounds(baseline.id))
    if not samples["this run"]:
        return
    with st.container(border=True):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.markdown("**Latency distribution**", width="content")
            samples_button(run)
        st.caption(f"{len(samples['this run'])} samples; {_outliers(samples['this run'])}.")
        show_percentiles(run, len(samples["this run"]))
        st.plotly_chart(
            latency_distribution(samples, palette()), theme=None, key="distribution", config=CHART_CONFIG,
            alt="Box plot of all latency samples",
        )  # fmt: skip
        st.plotly_chart(
            latency_over_time(samples, palette()), theme=None, key="over_time", config=CHART_CONFIG,
            alt="Latency of each sample in order",
        )  # fmt: skip


def _outliers(samples: list[float]) -> str:
    """What lies beyond the fences, which is marked and counts like every other sample."""
    found = count_outliers(samples)
    if not found[Outlier.MILD] + found[Outlier.FAR]:
        return "no outliers"
    return f"outliers marked, none dropped: {found[Outlier.MILD]} beyond 1.5 and {found[Outlier.FAR]} beyond 3 interquartile ranges"


def _latencies(rounds: list[Round]) -> list[float]:
    return [value for each in rounds for value in each.samples.get("latency", ())]


def _stages(run: Run) -> None:
    st.subheader("Stages", anchor=False)
    for position, stage in enumerate(run.facts, start=1):
        with st.container(border=True, gap="xsmall"):
            with st.container(horizontal=True, horizontal_alignment="distribute"):
                st.markdown(f"**{position}. {plain(stage.technique)}**", width="content")
                st.caption(duration(stage.seconds), width="content")
            for remark in stage.remarks:
                st.markdown(plain(remark))
            if stage.facts:
                st.dataframe(_facts(stage), hide_index=True, row_height=34, height="content", key=f"facts-{position}")


def _facts(stage: StageFacts) -> list[dict[str, str]]:
    return [{"Fact": name.replace("_", " "), "Value": _fact(name, value)} for name, value in stage.facts.items()]


def _fact(name: str, value: float | int | str | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        counted = isinstance(value, int)
        return size(value) if name.endswith("bytes") else significant(value, len(str(abs(value))) if counted else 4)
    return str(value)


def _measurements(run: Run) -> None:
    st.subheader("Measurements", anchor=False)
    st.dataframe(
        [_measurement(m) for m in run.measurements], hide_index=True, row_height=34, height="content", key="measurements", placeholder=MISSING
    )


def _measurement(m: Measurement) -> dict[str, object]:
    metric = METRICS.get(m.name)
    return {
        "Metric": metric.title if metric else m.name,
        "Median": value_of(m.name, m.median) if metric else significant(m.median),
        "From": value_of(m.name, m.ci95[0]) if m.ci95 else "",
        "To": value_of(m.name, m.ci95[1]) if m.ci95 else "",
        "Bounds": m.provenance.interval if m.ci95 else "",
        "Samples": m.samples if m.provenance is Provenance.MEASURED else None,
        "Provenance": str(m.provenance).capitalize(),
    }


def _about(run: Run) -> None:
    environment = run.environment
    if environment is None:
        return
    with st.expander("Environment"):
        rows = {
            "Host": environment.host, "CPU": f"{environment.cpu}, {environment.cores} cores",
            "CPU features": " ".join(environment.cpu_flags), "Memory": size(environment.memory_bytes),
            "Threads": str(environment.threads), "Kernel": environment.kernel, "Python": environment.python,
            "Frequency governor": environment.governor, "Isolation": environment.sandbox,
            **dict(sorted(environment.versions.items())),
        }  # fmt: skip
        st.dataframe(
            [{"What": name, "Value": value} for name, value in rows.items()], hide_index=True, row_height=34, height="content", key="environment"
        )


def _annotations(run: Run) -> None:
    with st.expander("Name, tags and notes"), st.form("annotations", border=False):
        name = st.text_input("Name", value=run.name, max_chars=200)
        tags = st.text_input("Tags, separated by commas", value=", ".join(run.tags), max_chars=500)
        notes = st.text_area("Notes", value=run.notes, max_chars=10_000)
        if st.form_submit_button("Save"):
            wanted = tuple(dict.fromkeys(t.strip() for t in tags.split(",") if t.strip()))
            resources().storage.runs.annotate(run.id, name=name.strip(), tags=wanted, notes=notes)
            st.rerun()


def _log(run: Run) -> None:
    with st.expander("Log"):
        log = resources().storage.runs.log(run.id)
        st.code(log or "Nothing was logged.", language=None, wrap_lines=True, height=360 if log else None)
