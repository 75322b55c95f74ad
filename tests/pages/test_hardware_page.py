"""The Hardware page: catalogue, fleet, projections marked as such."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from streamlit.testing.v1 import AppTest

from engine.domain.codec import as_data, encode
from engine.domain.experiment import Attachment
from engine.domain.metrics import Provenance
from engine.domain.roofline import ROOFLINE, Ceilings, Roofline, RooflinePoint
from engine.domain.workload import Workload
from engine.execution.lock import HostLock
from engine.execution.tracing import FILE, _key
from engine.hardware.gpus import gpus
from engine.hardware.networks import network
from engine.host import this_host
from engine.settings import Settings
from pages.parts.charts.roofline import roofline_figure
from pages.parts.theme import LIGHT
from storage import Storage
from tests.pages.conftest import words_of
from tests.pages.seed import seed_artifact, seed_experiment

OpenPage = Callable[..., AppTest]


def test_the_catalogue_is_there_and_can_be_narrowed(home: Storage, open_page: OpenPage) -> None:
    app = open_page("hardware")
    (table,) = (d.value for d in app.dataframe if "Source" in d.value.columns)
    assert len(table) == len(gpus())
    assert "python -m engine calibrate" in words_of(app)
    app.number_input(key="catalogue_memory").set_value(100).run()
    (table,) = (d.value for d in app.dataframe if "Source" in d.value.columns)
    assert set(table["Device"]) == {g.name for g in gpus() if g.memory_bytes >= 1e11}


def test_hosts_say_what_they_do(home: Storage, open_page: OpenPage) -> None:
    home.hosts.beat("alpha", "w1", this_host(), "measuring")
    (table,) = (d.value for d in open_page("hardware").dataframe if "Doing" in d.value.columns)
    assert list(table["Doing"]) == ["measuring"]


def test_a_model_is_projected_on_every_device_and_every_number_says_so(home: Storage, open_page: OpenPage, tmp_path: object) -> None:
    artifact = seed_artifact(home)
    assert "once for each workload" in words_of(open_page("hardware"))
    kept = tmp_path / "kept"  # type: ignore[operator]
    kept.mkdir()
    (kept / FILE).write_text(encode(network("bert-base")))
    home.files.put_directory(_key(artifact, Workload()), kept)
    app = open_page("hardware")
    (table,) = (d.value for d in app.dataframe if "Provenance" in d.value.columns)
    assert set(table["Provenance"]) == {"projected"}
    assert len(table) == 3 * len(gpus())
    said = words_of(app)
    assert "Projected, not measured" in said and "within the error band of" in said


def test_a_roofline_of_what_was_not_measured_has_hollow_marks() -> None:
    point = RooflinePoint(name="x", kind="matmul", intensity=10.0, flops_per_second=1e12, share=1.0, count=1, bound="memory")
    ceilings = Ceilings(compute={"bf16": 1e15}, bandwidth={"memory": 3e12})
    data = Roofline(device="H100", provenance=Provenance.PROJECTED, ceilings=ceilings, points=(point,))
    figure = roofline_figure(data, LIGHT)
    assert figure.data[-1].marker.symbol == "diamond-open"
    assert "projected" in figure.data[-1].hovertext[0]
    assert roofline_figure(replace(data, provenance=Provenance.MEASURED), LIGHT).data[-1].marker.symbol == "circle"


def test_a_roofline_says_what_its_longest_operator_reaches(home: Storage, open_page: OpenPage) -> None:
    experiment = seed_experiment(home, seed_artifact(home))
    run = home.runs.of_experiment(experiment.id)[1]
    said = words_of(open_page("run", query={"id": run.id}))
    assert "linear takes" not in said  # its profile tells no FLOPs
    point = RooflinePoint(name="query", kind="matmul", intensity=100.0, flops_per_second=5e10, share=0.6, count=6, bound="compute", format="fp32")
    old = RooflinePoint(name="gone", kind="elementwise", intensity=0.0, flops_per_second=0.0, share=0.1, count=6, bound="memory")
    ceilings = Ceilings(compute={"fp32": 1e11}, bandwidth={"memory": 2e10})
    roofline = Roofline(device="a CPU", provenance=Provenance.MEASURED, ceilings=ceilings, points=(point, old), source="measured today")
    home.runs.record_attachments(run.id, 1, [Attachment(ROOFLINE, as_data(roofline))])
    said = words_of(open_page("run", query={"id": run.id}))
    assert "query takes 60 % of a call and reaches 50 % of its ceiling, which is the arithmetic, measured" in said
    assert "60 % of a call is drawn" in said


def test_recipes_stand_in_the_address(home: Storage, open_page: OpenPage, tmp_path: Path) -> None:
    artifact = seed_artifact(home)
    (tmp_path / FILE).write_text(encode(network("bert-base")))
    home.files.put_directory(_key(artifact, Workload()), tmp_path)
    recipes = ["as uploaded", "quantization(format=fp8)@eager"]
    app = open_page("hardware", query={"recipe": recipes})
    (table,) = (d.value for d in app.dataframe if "Provenance" in d.value.columns)
    assert set(table["Recipe"]) == set(recipes)
    app.multiselect(key=f"recipes-{artifact.id}").unselect("").run()
    assert app.query_params["recipe"] == recipes[1]


def test_a_host_that_measures_is_not_disturbed(home: Storage, open_page: OpenPage, settings: Settings) -> None:
    seed_artifact(home)
    app = open_page("hardware")
    with HostLock(settings.home).hold("an experiment", lambda holder: None):
        app.button(key="project").click().run()
    assert not app.exception and "Try again when it is done" in words_of(app)


def test_recipes_that_rewrite_the_model_are_series_once_they_were_found(home: Storage, open_page: OpenPage, tmp_path: Path) -> None:
    artifact, pruned = seed_artifact(home), "pruning(sparsity=0.3)"
    for rewrites, name in (("", "bert-base"), (pruned, "minilm-l6")):
        kept = tmp_path / name
        kept.mkdir()
        (kept / FILE).write_text(encode(network(name)))
        home.files.put_directory(_key(artifact, Workload(), rewrites), kept)
    app = open_page("hardware")
    recipes = app.multiselect(key=f"recipes-{artifact.id}")
    recipes.select(pruned).run()
    (table,) = (d.value for d in app.dataframe if "Provenance" in d.value.columns)
    assert len(table) == 4 * len(gpus()) and pruned in set(table["Recipe"])
    app.multiselect(key=f"recipes-{artifact.id}").select("distillation(layers=0.5)").run()
    assert "without any training" in words_of(app)
    assert not [d for d in app.dataframe if "Provenance" in d.value.columns]
