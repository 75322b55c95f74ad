"""Chosen runs side by side: their numbers, their knobs, their environments."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from engine.compare.difference import Difference, differences_of, differing_environments
from engine.domain.experiment import Run
from engine.domain.metrics import METRICS, QUALITY
from pages.parts.format import plus_minus, ratio, share, value_of
from pages.parts.wording import recipe_words


def refused(runs: Sequence[Run]) -> bool:
    """Whether these runs' times must not be compared; says so, with what differs between their environments."""
    found = differing_environments(runs)
    if not found:
        return False
    st.error(
        "**These runs were measured in unlike environments, so their times are not compared.** "
        "Measure their recipes in one experiment; what does not depend on the machine stands below.",
        icon=":material/balance:",
    )
    st.subheader("What differs between the environments", anchor=False)
    _difference_table(runs, found, "compare_environments")
    return True


def metrics_table(runs: Sequence[Run], guard_rails: Sequence[float], *, comparable: bool = True) -> None:
    """Metrics as rows, runs as columns: reads well from two runs to a dozen. `guard_rails`: one a run.

    Runs that are not comparable have only what says the same on every machine. A speedup
    is over the run's own baseline, measured beside it, and stands.
    """
    st.subheader("Metrics", anchor=False)
    names = [n for n in METRICS if any(r.measurement(n) for r in runs) and (comparable or METRICS[n].travels)]
    headings = headings_of(runs)
    own = "Speedup" if comparable else "Speedup over its own baseline"
    rows: list[dict[str, str]] = [{"Metric": own, **{h: _speedup(r) for h, r in zip(headings, runs, strict=True)}}]
    rows += [
        {"Metric": METRICS[n].title, **{h: _value(r, n) for h, r in zip(headings, runs, strict=True)}} for n in names
    ]
    passes = {h: _passes(r, rail) for h, r, rail in zip(headings, runs, guard_rails, strict=True)}
    rows.append({"Metric": "Guard-rail", **passes})
    st.dataframe(rows, hide_index=True, row_height=34, height="content", key="compare_metrics")


def differences(runs: Sequence[Run]) -> None:
    """What differs between the recipes and in what their stages did."""
    st.subheader("What differs", anchor=False)
    found = differences_of(runs)
    if not found:
        st.caption("These runs have the same recipe.")
        return
    _difference_table(runs, found, "compare_differences")


def _difference_table(runs: Sequence[Run], found: Sequence[Difference], key: str) -> None:
    headings = headings_of(runs)
    rows = [{"What": d.what, **dict(zip(headings, d.values, strict=True))} for d in found]
    st.dataframe(rows, hide_index=True, row_height=34, height="content", key=key)


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
