"""Experiment: which combination wins, and is it real?"""

from __future__ import annotations

import streamlit as st

from engine.domain.errors import SpeedrailError
from pages.parts import experiment_list, live, results, sharing
from pages.parts.comparison import Comparison, load_comparison
from pages.parts.format import count, plural
from pages.parts.shell import Badge, Crumb, page_header, resources, show_problem


def render() -> None:
    experiment_id = st.query_params.get("id", "")
    if not experiment_id:
        experiment_list.show()
        return
    try:
        comparison = load_comparison(resources().storage, experiment_id)
    except SpeedrailError as error:
        page_header("Experiment", [Crumb("Experiments", "experiment.py")])
        show_problem(error)
        return
    actions = page_header(
        comparison.experiment.name,
        [Crumb("Experiments", "experiment.py"), Crumb(comparison.artifact.name)],
        _badges(comparison),
    )
    with actions:
        sharing.actions(comparison)
    if comparison.unfinished:
        live.show(comparison.experiment.id)
    results.show(comparison)


def _badges(comparison: Comparison) -> list[Badge]:
    done, total = len(comparison.rows) - len(comparison.unfinished), len(comparison.rows)
    card = comparison.artifact.card
    badges = [
        Badge(f"{done} of {plural(total, 'run')}", ":material/check_circle:", "blue"),
        Badge(f"{card.task.label}, {count(card.parameters)} parameters", ":material/deployed_code:"),
        Badge(comparison.workload_words, ":material/speed:"),
    ]
    environment = next((r.run.environment for r in comparison.succeeded if r.run.environment), None)
    if environment:
        badges.append(Badge(f"{environment.cores} cores, {environment.cpu}", ":material/memory:"))
    return badges


render()
