"""What would this model do on …: one artifact on every device of the catalogue. All of it projected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import streamlit as st

from engine.domain.artifact import Artifact, TaskId
from engine.domain.errors import SpeedrailError
from engine.domain.workload import Workload
from engine.execution.tracing import trace, traced
from engine.grammar import parse_recipe
from engine.hardware.gpus import gpus
from engine.hardware.operators import Network
from engine.hardware.projection import Projection, project
from engine.hardware.scenarios import Scenario, scenario_of
from engine.host import this_host
from engine.plan import make_plan
from pages.parts.charts.devices import devices_figure
from pages.parts.format import plain, plural, significant
from pages.parts.forms import config_form, linked_choice
from pages.parts.shell import resources, show_problem
from pages.parts.theme import palette
from pages.parts.workload_form import asked_of

_AS_UPLOADED = "as uploaded"
_FORMATS = ("", "quantization(format=bf16)", "quantization(format=int8)")
_CAUSAL = "quantization(format=int4)"
_REWRITTEN = ("pruning(sparsity=0.3)", "pruning(sparsity=0.3)+quantization(format=int8)", "distillation(layers=0.5)")
_MOST_RECIPES = 8
_IN_ADDRESS = "recipe"


class _Busy(Exception):
    """Something else holds this host."""


def show() -> None:
    st.subheader("What would this model do on…", anchor=False)
    artifacts = resources().storage.artifacts.list("", 0, 100).items
    if not artifacts:
        st.caption("Upload a model first: its operators are then projected on every device below.")
        return
    by_id = {summary.artifact.id: summary.artifact for summary in artifacts}
    with st.grid("auto", min_column_width=170, gap="small", vertical_alignment="bottom"):
        chosen = by_id[linked_choice("Model", list(by_id), "artifact", lambda id: by_id[id].name)]
        against = linked_choice("Against", ["power", "energy"], "against", {"power": "Board power", "energy": "Energy an item"}.__getitem__)
    workload = Workload.of(config_form(Workload, [name for name in asked_of(chosen.card) if name != "threads"]))
    scenarios = _scenarios(chosen)
    networks = _networks(chosen, workload, {scenario.rewrites for scenario in scenarios.values()})
    if networks and scenarios:
        _draw({words: _on_every_device(networks[s.rewrites], s) for words, s in scenarios.items()}, against)


def _scenarios(artifact: Artifact) -> dict[str, Scenario]:
    """The recipes that are chosen, by their words; what cannot be projected of this model says why."""
    usual = [*_FORMATS, *([_CAUSAL] if artifact.card.task is TaskId.CAUSAL_LM else [])]
    linked = ["" if text == _AS_UPLOADED else text for text in st.query_params.get_all(_IN_ADDRESS)][:_MOST_RECIPES]
    widget = f"recipes-{artifact.id}"
    chosen = st.multiselect(
        "Recipes", list(dict.fromkeys([*usual, *_REWRITTEN, *linked])), linked or usual, format_func=lambda text: text or _AS_UPLOADED,
        accept_new_options=True, max_selections=_MOST_RECIPES, key=widget, on_change=_remember, args=(widget,),
        help="Of distillation, pruning, quantization and gpu; type your own",
    )  # fmt: skip
    found = {}
    for text in chosen:
        try:
            recipe = parse_recipe(text)
            scenario = scenario_of(recipe, artifact.card)
            rewriting = make_plan(parse_recipe(scenario.rewrites), artifact.card, this_host())
        except SpeedrailError as error:
            st.warning(plain(f"{text}: {error}"))
            continue
        if rewriting.refusals:
            st.warning(plain(f"{text}: {rewriting.refusals[0]}"))
        else:
            found[str(recipe) or _AS_UPLOADED] = scenario
    return found


def _remember(widget: str) -> None:
    st.query_params[_IN_ADDRESS] = [text or _AS_UPLOADED for text in st.session_state[widget]]


def _networks(artifact: Artifact, workload: Workload, rewrites: Set[str]) -> dict[str, Network]:
    """Operators by rewriting, found on request: shapes take seconds, cutting a model as long as the cut itself. Empty: not yet."""
    storage, settings = resources().storage, resources().settings
    found = {each: traced(artifact, workload, storage, each) for each in sorted(rewrites)}
    missing = [each for each, network in found.items() if network is None]
    if not missing:
        return {each: network for each, network in found.items() if network}
    if not st.button("Project", type="primary", icon=":material/trending_up:", key="project"):
        cut = " A recipe that rewrites the model is carried out for it, without any training." if any(missing) else ""
        st.caption(f"Finding its operators takes some seconds, once for each workload.{cut}")
        return {}
    try:
        for each in missing:
            with st.spinner(f"Finding the operators {plain(each)}"):
                trace(artifact, workload, storage, settings, _refuse_to_wait, each)
        st.rerun()
    except _Busy:
        st.warning("This host is at work now, which loading a model would disturb. Try again when it is done.")
    except SpeedrailError as error:
        show_problem(error)
    return {}


def _refuse_to_wait(holder: str) -> None:
    raise _Busy


def _on_every_device(network: Network, scenario: Scenario) -> list[Projection]:
    return [project(network, gpu, scenario.precision, scenario.execution) for gpu in gpus()]


def _draw(series: Mapping[str, Sequence[Projection]], against: str) -> None:
    every = [p for projections in series.values() for p in projections]
    fitting = [p for p in every if p.fits]
    if fitting:
        st.markdown(f"**{plain(_sentence(fitting))}**")
    st.plotly_chart(devices_figure(series, against, palette()), theme=None, key="devices", config={"displayModeBar": False})
    without = sum(not p.fits for p in every)
    st.caption(
        "Projected, not measured: hollow marks; bars are the error band within which nine of ten published figures lay. "
        + (f"{without} projections are left out, because the device would run out of memory." if without else "All would fit into memory.")
    )
    with st.expander("All projections as a table"):
        st.dataframe([_cells(words, p) for words, ps in series.items() for p in ps], hide_index=True, row_height=34, alt="Projections", key="projections")


def _sentence(fitting: Sequence[Projection]) -> str:
    """Who would be fastest, and how many others may be as fast for all that is known."""
    fastest = min(fitting, key=lambda p: p.latency)
    saving = min(fitting, key=lambda p: p.joules_high)
    rivals = len({p.device.id for p in fitting if p.low <= fastest.latency} - {fastest.device.id})
    others = f", within the error band of {plural(rivals, 'other device')}" if rivals else ""
    return (
        f"Projected: {fastest.device.name} would be fastest with {significant(fastest.latency * 1e3)} ms{others}; "
        f"{saving.device.name} would take the least energy."
    )


def _cells(words: str, p: Projection) -> dict[str, object]:
    return {
        "Device": p.device.name, "Recipe": words, "Latency, ms": f"{significant(p.latency * 1e3)} ({significant(p.low * 1e3)} to {significant(p.high * 1e3)})",
        "Items/s": significant(p.throughput), "Memory, GB": f"{p.memory.total / 1e9:.2f} of {p.device.memory_bytes / 1e9:.0f}",
        "Fits": "yes" if p.fits else "out of memory", "Energy, J/item": f"{significant(p.joules_low / p.items)} to {significant(p.joules_high / p.items)}",
        "Bound by": str(p.bound), "Products in": p.arithmetic, "Provenance": "projected",
    }  # fmt: skip
