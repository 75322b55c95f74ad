"""Chosen runs side by side: their numbers, their knobs, their environments."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from engine.compare.difference import Difference, differences_of, unlike_environments
from engine.domain.experiment import Run
from engine.domain.metrics import METRICS, QUALITY
from pages.parts.format import plain, plus_minus, ratio, share, value_of
from pages.parts.wording import recipe_words


def warn_unlike(runs: Sequence[Run]) -> None:
    """Say so when the runs were not measured in one environment, and what differs."""
    for sentence in unlike_environments(runs):
        st.warning(plain(sentence), icon=":material/balance:")


def metrics_table(runs: Sequence[Run], guard_rails: Sequence[float]) -> None:
    """Metrics as rows, runs as columns: reads well from two runs to a dozen. `guard_rails`: one a run."""
    st.subheader("Metrics", anchor=False)
    names = [n for n in METRICS if any(r.measurement(n) for r in runs)]
    headings = headings_of(runs)
    rows: list[dict[str, str]] = [{"Metric": "Speedup", **{h: _speedup(r) for h, r in zip(headings, runs, strict=True)}}]
    rows += [
        {"Metric": METRICS[n].title, **{h: _value(r, n) for h, r in zip(headings, runs, strict=True)}} for n in names
    ]
    passes = {h: _passes(r, rail) for h, r, rail in zip(headings, runs, guard_rails, strict=True)}
    rows.append({"Metric": "Guard-rail", **passes})
    st.dataframe(rows, hide_index=True, row_height=34, key="compare_metrics")


def differences(runs: Sequence[Run]) -> None:
    """What differs between the recipes and in what their stages did."""
    st.subheader("What differs", anchor=False)
    headings = headings_of(runs)
    found: list[Difference] = differences_of(runs)
    if not found:
        st.caption("These runs have the same recipe.")
        return
    st.dataframe(
        [{"What": d.what, **dict(zip(headings, d.values, strict=True))} for d in found], hide_index=True, row_height=34,
        key="compare_differences",
    )  # fmt: skip


def headings_of(runs: Sequence[Run]) -> list[str]:
    """A distinct column heading for each run."""
    words = [recipe_words(r.recipe, r.runtime) for r in runs]
    return [w if words.count(w) == 1 else f"{w} ({r.id[:6]})" for w, r in zip(words, runs, strict=True)]


def _passes(run: Run, guard_rail: float) -> str:
    quality = run.value(QUALITY.name)
    return "" if quality is None else f"{'Pass' if quality >= guard_rail else 'Fail'} (at least {share(guard_rail)})"


def _speedup(run: Run) -> str:
    if run.is_baseline:
        return "1 (baseline)"
    return f"{ratio(run.speedup.median)} {plus_minus(run.speedup)}".strip() if run.speedup else ""


def _value(run: Run, name: str) -> str:
    found = run.measurement(name)
    return f"{value_of(name, found.median)} {plus_minus(found)}".strip() if found else ""
