"""What would this model do on …: one artifact on every device of the catalogue. All of it projected."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from engine.domain.artifact import Artifact, TaskId
from engine.domain.errors import SpeedrailError
from engine.domain.workload import Workload
from engine.execution.tracing import trace, traced
from engine.grammar import parse_recipe
from engine.hardware.gpus import gpus
from engine.hardware.operators import Network
from engine.hardware.projection import Projection, project
from engine.hardware.scenarios import scenario_of
from pages.parts.charts.devices import devices_figure
from pages.parts.format import plain, significant
from pages.parts.forms import config_form, linked_choice
from pages.parts.shell import resources, show_problem
from pages.parts.theme import palette
from pages.parts.workload_form import asked_of

_ALWAYS = {"as uploaded": "", "bf16": "quantization(format=bf16)", "int8": "quantization(format=int8)"}
_CAUSAL = {"int4": "quantization(format=int4)"}


@dataclass(frozen=True, slots=True)
class _Busy(Exception):
    holder: str


def show() -> None:
    st.subheader("What would this model do on…", anchor=False)
    artifacts = resources().storage.artifacts.list("", 0, 100).items
    if not artifacts:
        st.caption("Upload a model first: its operators are then projected on every device below.")
        return
    by_id = {summary.artifact.id: summary.artifact for summary in artifacts}
    with st.grid("auto", min_column_width=170, gap="small", vertical_alignment="bottom"):
        chosen = by_id[linked_choice("Model", list(by_id), "artifact", lambda id: plain(by_id[id].name))]
        against = linked_choice("Against", ["power", "energy"], "against", {"power": "Board power", "energy": "Energy an item"}.__getitem__)
    workload = Workload.of(config_form(Workload, [name for name in asked_of(chosen.card) if name != "threads"]))
    network = _network(chosen, workload)
    if network is not None:
        _draw(chosen, network, against)


def _network(artifact: Artifact, workload: Workload) -> Network | None:
    """The operators, found on request: it loads the model's modules for some seconds, never its weights."""
    storage, settings = resources().storage, resources().settings
    found = traced(artifact, workload, storage)
    if found is not None:
        return found
    if not st.button("Project", type="primary", icon=":material/trending_up:", key="project"):
        st.caption("Finding its operators takes some seconds, once for each workload.")
        return None
    try:
        with st.spinner("Finding the operators"):
            trace(artifact, workload, storage, settings, _refuse_to_wait)
        st.rerun()
    except _Busy:
        st.warning("This host measures something now, which loading a model would disturb. Try again when it is done.")
    except SpeedrailError as error:
        show_problem(error)
    return None


def _refuse_to_wait(holder: str) -> None:
    raise _Busy(holder)


def _draw(artifact: Artifact, network: Network, against: str) -> None:
    recipes = _ALWAYS | (_CAUSAL if artifact.card.task is TaskId.CAUSAL_LM else {})
    series: dict[str, list[Projection]] = {}
    for words, text in recipes.items():
        scenario = scenario_of(parse_recipe(text), artifact.card)
        series[words] = [project(network, gpu, scenario.precision, scenario.execution) for gpu in gpus()]
    every = [p for projections in series.values() for p in projections]
    fitting = [p for p in every if p.fits]
    if fitting:
        best = min(fitting, key=lambda p: p.joules_high)
        fastest = min(fitting, key=lambda p: p.latency)
        st.markdown(
            f"**Projected: {plain(fastest.device.name)} would be fastest with {significant(fastest.latency * 1e3)} ms; "
            f"{plain(best.device.name)} would take the least energy.**"
        )
    st.plotly_chart(devices_figure(series, against, palette()), theme=None, key="devices", config={"displayModeBar": False})
    without = sum(not p.fits for p in every)
    st.caption(
        "Projected, not measured: hollow diamonds; bars are the band within which nine of ten published figures lay. "
        + (f"{without} projections are left out, because the device would run out of memory." if without else "All would fit into memory.")
    )
    with st.expander("All projections as a table"):
        st.dataframe([_cells(words, p) for words, ps in series.items() for p in ps], hide_index=True, row_height=34, alt="Projections", key="projections")


def _cells(words: str, p: Projection) -> dict[str, object]:
    return {
        "Device": p.device.name, "Format": words, "Latency, ms": f"{significant(p.latency * 1e3)} ({significant(p.low * 1e3)} to {significant(p.high * 1e3)})",
        "Items/s": significant(p.throughput), "Memory, GB": f"{p.memory.total / 1e9:.2f} of {p.device.memory_bytes / 1e9:.0f}",
        "Fits": "yes" if p.fits else "out of memory", "Energy, J/item": f"{significant(p.joules_low / p.items)} to {significant(p.joules_high / p.items)}",
        "Bound by": str(p.bound), "Provenance": "projected",
    }  # fmt: skip
