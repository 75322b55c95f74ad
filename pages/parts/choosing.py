"""What to try: suggested recipes, techniques ticked in the article's four families, or words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from engine import catalogue
from engine.domain.artifact import ModelCard
from engine.domain.errors import SpeedrailError
from engine.domain.recipe import Recipe, RuntimeId
from engine.grammar import parse_recipe
from engine.grid import Column, expand
from engine.host import this_host
from engine.launch import distinct
from engine.suggest import suggested_recipes
from pages.parts.forms import families, technique_row
from pages.parts.shell import show_problem

_EXAMPLE = "pruning(sparsity=0.3)+quantization(format=int8)@openvino"


@dataclass(frozen=True, slots=True)
class Choice:
    """Recipes in the order they are listed, and those that came from the suggestions."""

    recipes: tuple[Recipe, ...]
    suggested: frozenset[str]


def choice_form(card: ModelCard, others: Sequence[str]) -> Choice:
    """others: further models that a recipe may name, as words of which the last is the id."""
    st.subheader("What to try", anchor=False)
    with st.container(border=True, gap=None):
        wants_suggested = st.toggle("**Suggested recipes**", value=True, key="suggested", bind="query-params")
        st.caption("Sound choices for this model on this machine. Add your own below; equal recipes run once.")
    suggested = suggested_recipes(card, this_host()) if wants_suggested else []
    columns: list[Column] = []
    for family, techniques in families(catalogue.TECHNIQUES):
        _heading(family)
        columns += [column for spec in techniques if (column := technique_row(spec, others))]
    grid = _grid(columns)
    typed = _typed()
    return Choice(tuple(distinct([*suggested, *grid, *typed])), frozenset(map(str, suggested)))


def _heading(words: str) -> None:
    st.markdown(f":gray[{words}]")


def _grid(columns: list[Column]) -> list[Recipe]:
    _heading("Runtimes")
    with st.container(border=True):
        runtimes = st.pills(
            "What executes the model", list(RuntimeId), selection_mode="multi", default=[], key="runtimes",
            bind="query-params", help="Each ticked technique is tried on each runtime; none ticked: the model's own",
            format_func=str,
        )  # fmt: skip
        every = True
        if len(columns) > 1:
            every = st.toggle(
                "Also try each technique without the others", value=True, key="every_combination", bind="query-params"
            )
    if not columns and not runtimes:
        return []
    # a single technique is wanted itself; the runtime without it shows what it adds
    axes = [Column(c.technique, c.values, optional=every and (len(columns) > 1 or bool(runtimes))) for c in columns]
    try:
        return expand(axes, runtimes)
    except SpeedrailError as error:
        show_problem(error)
        return []


def _typed() -> list[Recipe]:
    _heading("In words")
    text = st.text_area(
        "Recipes, one a line", key="recipes", bind="query-params", placeholder=_EXAMPLE, height=80,
        help="technique(knob=value, …) joined by +, then @runtime",
    )  # fmt: skip
    found: list[Recipe] = []
    for line in (text or "").splitlines():
        if line.strip():
            try:
                found.append(parse_recipe(line))
            except SpeedrailError as error:
                show_problem(error)
    return found
