"""Widgets made from knobs: a setting is declared once, as a field of a Config.

Every widget keeps its value in the address (`bind="query-params"`), under a key that
is its knob's name, so that a form can be sent as a link and survives a refresh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from engine.domain.errors import RecipeError
from engine.domain.knobs import Config, Knob, KnobValue, format_value
from engine.domain.technique import Family, TechniqueSpec
from engine.grid import Column
from pages.parts.format import plain
from pages.parts.shell import show_problem


def families(techniques: Sequence[TechniqueSpec]) -> list[tuple[Family, list[TechniqueSpec]]]:
    """The techniques in the article's groups, those without one left out."""
    return [(f, group) for f in Family if (group := [spec for spec in techniques if spec.family is f])]


_ACRONYMS = ("cuda", "kv", "qat", "tf32")


def title_of(name: str) -> str:
    """`group_size` as a label: `Group size`; `kv_cache`: `KV cache`."""
    first, *rest = name.split("_")
    return " ".join([first.upper() if first in _ACRONYMS else first.capitalize(), *rest])


def technique_row(spec: TechniqueSpec, others: Sequence[str]) -> Column | None:
    """A tick, and once ticked the technique's knobs; None while it is not ticked.

    others: further models that a knob may name, as words of which the last is the id.
    """
    with st.container(border=True, gap="small", key=f"technique_{spec.id}"):
        with st.container(gap=None):
            ticked = st.checkbox(f"**{plain(spec.title)}**", key=spec.id, bind="query-params")
            st.caption(plain(spec.summary))
        if not ticked:
            return None
        return Column(spec.id, _grid_values(spec, others), optional=True)


def _grid_values(spec: TechniqueSpec, others: Sequence[str]) -> dict[str, Sequence[KnobValue]]:
    chosen: dict[str, Sequence[KnobValue]] = {}
    with st.grid("auto", min_column_width=220, gap="small"):
        for knob in spec.config.knobs():
            if is_shown(knob, chosen) and (others or not knob.names_model):
                key = f"{spec.id}.{knob.name}"
                chosen[knob.name] = several_models(knob, key, others) if knob.names_model else several_values(knob, key)
    return chosen


def several_models(knob: Knob, key: str, others: Sequence[str]) -> list[KnobValue]:
    """One or more other models, or none."""
    picked: list[str] = st.multiselect(
        title_of(knob.name), others, key=key, help=plain(knob.help), placeholder="None: made from this model", bind="query-params"
    )
    return parsed(knob, [words.rpartition(" ")[2] for words in picked])


def is_shown(knob: Knob, chosen: Mapping[str, Sequence[KnobValue]]) -> bool:
    """Whether this knob has an effect under some of the values chosen so far."""
    return all(
        name not in chosen or any(format_value(value) in values for value in chosen[name])
        for name, values in knob.shown_when
    )


def several_values(knob: Knob, key: str) -> list[KnobValue]:
    """One or more values of a knob; none picked means its default."""
    default = format_value(knob.default)
    label, unit = title_of(knob.name), f" ({knob.unit})" if knob.unit else ""
    if knob.choices or knob.type is bool:
        picked: list[str] = st.pills(
            label, knob.choices or ("false", "true"), selection_mode="multi", default=[default], key=key,
            help=plain(knob.help), bind="query-params", wrap=True,
        )  # fmt: skip
    else:
        picked = st.multiselect(
            f"{label}{unit}", offered(knob), default=[default], key=key, help=f"{plain(knob.help)}. {bounds(knob)}",
            accept_new_options=True, placeholder=f"{default} unless others are typed", bind="query-params",
        )  # fmt: skip
    return parsed(knob, picked)


def parsed(knob: Knob, texts: Sequence[str]) -> list[KnobValue]:
    """The values that are good; a problem is shown for each other one."""
    values: list[KnobValue] = []
    for text in texts:
        try:
            value = knob.parse(text)
            knob.check(value)
        except RecipeError as error:
            show_problem(error)
        else:
            if value not in values:
                values.append(value)
    return values or [knob.default]


def offered(knob: Knob) -> list[str]:
    """What a multiselect lists: the grid and the default, in order."""
    return [format_value(value) for value in sorted({*knob.grid, knob.default}, key=lambda value: (str(type(value)), value))]


def bounds(knob: Knob) -> str:
    """`From 0.01 to 0.95. Several values make a grid.`"""
    span = f"From {knob.low:g} to {knob.high:g}. " if knob.low is not None and knob.high is not None else ""
    return f"{span}Several values make a grid."


def one_value(knob: Knob, key: str) -> KnobValue:
    """A knob that has one value in this form: a workload's, say."""
    label = f"{title_of(knob.name)}{f' ({knob.unit})' if knob.unit else ''}"
    if knob.choices:
        index = knob.choices.index(str(knob.default))
        chosen = st.selectbox(label, knob.choices, index, key=key, help=plain(knob.help), bind="query-params")
        return str(chosen)
    if knob.type is bool:
        return st.toggle(label, bool(knob.default), key=key, help=plain(knob.help), bind="query-params")
    if knob.type is int:
        whole = st.number_input(
            label, _int(knob.low), _int(knob.high), int(knob.default), 1, key=key, help=plain(knob.help), bind="query-params"
        )
        return int(whole)
    number = st.number_input(
        label, knob.low, knob.high, float(knob.default), key=key, help=plain(knob.help), bind="query-params"
    )
    return float(number)


def _int(bound: float | None) -> int | None:
    return None if bound is None else int(bound)


def linked_choice(label: str, options: Sequence[str], key: str, words: Callable[[str], str], **look: Any) -> str:
    """A selectbox whose option, not its words, stands in the address (Streamlit's own binding writes the words)."""
    wanted = st.query_params.get(key, "")
    widget = f"choice_{key}"
    chosen = st.selectbox(
        label, options, options.index(wanted) if wanted in options else 0, format_func=words, key=widget,
        on_change=_remember, args=(key, widget), **look,
    )  # fmt: skip
    return str(chosen)


def _remember(key: str, widget: str) -> None:
    st.query_params[key] = st.session_state[widget]


def config_form(config: type[Config], names: Sequence[str], *, min_width: int = 150) -> dict[str, KnobValue]:
    """One widget for each named knob that has an effect under those before it, in the order of `names`."""
    knobs = {knob.name: knob for knob in config.knobs()}
    values: dict[str, KnobValue] = {}
    with st.grid("auto", min_column_width=min_width, gap="small", vertical_alignment="bottom"):
        for name in names:
            if is_shown(knobs[name], {before: [value] for before, value in values.items()}):
                values[name] = one_value(knobs[name], name)
    return values
