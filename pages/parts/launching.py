"""The growing list of recipes, what it will take, and the launch."""

from __future__ import annotations

import re
from collections.abc import Sequence

import streamlit as st

from engine.domain.artifact import Artifact
from engine.domain.errors import SpeedrailError
from engine.domain.knobs import format_value
from engine.domain.plan import Plan, Stage
from engine.domain.recipe import Recipe
from engine.domain.technique import Obstacle
from engine.estimate import estimate_seconds
from engine.host import this_host
from engine.launch import cards_named, distinct, launch
from engine.plan import make_plan, on_a_runtime
from engine.worker import ensure_worker
from pages.parts.choosing import Choice
from pages.parts.format import duration, plain, plural
from pages.parts.forms import title_of
from pages.parts.shell import resources, show_problem
from pages.parts.workload_form import Question

_SHOWN = 40
_LEFT_OUT = "without"


def offer(artifact: Artifact, question: Question, choice: Choice) -> None:
    """The right-hand side: total, launch button, then each recipe with its plan."""
    host = this_host()
    named = cards_named(choice.recipes, resources().storage)
    recipes = distinct(on_a_runtime(recipe, artifact.card, host, named) for recipe in choice.recipes)
    plans = [make_plan(recipe, artifact.card, host, named) for recipe in recipes]
    left_out = set(st.query_params.get_all(_LEFT_OUT))
    wanted = [plan for plan in plans if plan.runs and str(plan.recipe) not in left_out]
    refused = [plan for plan in plans if not plan.runs]
    baseline = make_plan(Recipe(), artifact.card, host)
    seconds = estimate_seconds([baseline, *wanted], artifact.card, question.workload, host)
    total = len(wanted) + 1
    with st.container(border=True, gap="small", key="launch_box"):
        st.markdown(f"**{plural(total, 'run')}, about {duration(seconds)}**")
        parts = [plural(len(wanted), "recipe"), "the baseline"]
        if refused:
            parts.append(f"{len(refused)} refused")
        st.caption(" + ".join(parts[:2]) + (f"; {parts[2]} and left out" if refused else ""))
        if st.button(
            f"Launch {plural(total, 'run')}", type="primary", icon=":material/play_arrow:", key="launch", width="stretch",
            disabled=not wanted,
        ):  # fmt: skip
            _launch(artifact, question, [plan.recipe for plan in wanted])
    with st.container(key="recipe_list", gap="small"):
        _recipes(baseline, plans, refused, left_out)


def _recipes(baseline: Plan, plans: Sequence[Plan], refused: Sequence[Plan], left_out: set[str]) -> None:
    _baseline_row(baseline)
    able = [plan for plan in plans if plan.runs]
    for plan in able[:_SHOWN]:
        _row(plan, str(plan.recipe) not in left_out)
    if len(able) > _SHOWN:
        st.caption(f"And {len(able) - _SHOWN} more, which run too.")
    for reasons, recipes in _by_reasons(refused).items():
        _refused_box(reasons, recipes)


def _launch(artifact: Artifact, question: Question, recipes: Sequence[Recipe]) -> None:
    found = resources()
    try:
        with st.spinner("Starting the worker"):
            ensure_worker(found.settings)
        experiment = launch(
            found.storage, found.queue, artifact, question.workload, recipes,
            target=question.target, guard_rail=question.guard_rail, dataset=question.dataset,
            calibration=question.calibration, name=question.name, keep_models=question.keep_models,
        )  # fmt: skip
    except SpeedrailError as error:
        show_problem(error)
        return
    st.switch_page("pages/experiment.py", query_params={"id": experiment.id})


def _baseline_row(plan: Plan) -> None:
    with st.container(border=True, gap=None, key="recipe_baseline"):
        st.checkbox("**baseline**", value=True, disabled=True, key="baseline")
        st.caption(f"The model as uploaded, fp32 on {plan.runtime}. Always runs: everything is measured against it.")


def _row(plan: Plan, included: bool) -> None:
    text = str(plan.recipe)
    with st.container(border=True, gap=None, key=f"recipe_{_key(text)}"):
        st.checkbox(
            f"**{_breakable(text)}**", value=included, key=f"include_{text}", on_change=_toggle, args=(text,), wrap=True
        )
        st.caption(_story(plan))


def _by_reasons(refused: Sequence[Plan]) -> dict[tuple[Obstacle, ...], list[str]]:
    """Refused recipes, those with the same reasons together."""
    groups: dict[tuple[Obstacle, ...], list[str]] = {}
    for plan in refused:
        groups.setdefault(plan.refusals, []).append(str(plan.recipe))
    return groups


def _refused_box(reasons: tuple[Obstacle, ...], recipes: Sequence[str]) -> None:
    with st.container(border=True, gap="xxsmall", key=f"refused_{_key(recipes[0])}"):
        st.badge("Refused", icon=":material/block:", color="gray")
        st.caption("  \n".join(_breakable(text) for text in recipes[:_SHOWN]))
        for reason in reasons:
            st.markdown(f":small[:orange[{plain(reason.reason)}] {plain(reason.mend)}]")


def _breakable(recipe: str) -> str:
    """The recipe, which may wrap between techniques and before the runtime."""
    return plain(recipe).replace("\\+", "\\+\u200b").replace("@", "\u200b@")


def _key(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text)


def _toggle(text: str) -> None:
    left_out = st.query_params.get_all(_LEFT_OUT)
    st.query_params[_LEFT_OUT] = [t for t in left_out if t != text] if text in left_out else [*left_out, text]


def _story(plan: Plan) -> str:
    """The stages in order, each reason where the order could have been another."""
    several = len(plan.stages) > 1
    lines = [
        f"{number}. {_stage(stage)}{'. ' + plain(stage.reason) if several else ''}"
        for number, stage in enumerate(plan.stages, 1)
    ]
    return "  \n".join([*lines, f"{len(lines) + 1}. Lowered to {plan.runtime}, which runs it"])


def _stage(stage: Stage) -> str:
    """The technique and what the recipe says of it; every other knob is at its default."""
    settings = ", ".join(f"{title_of(name).lower()} {format_value(value)}" for name, value in stage.config.spelled().items())
    return plain(f"{stage.title}: {settings}" if settings else stage.title)
