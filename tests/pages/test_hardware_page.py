"""The Hardware page: catalogue, fleet, projections marked as such."""

from __future__ import annotations

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from engine.domain.codec import encode
from engine.domain.workload import Workload
from engine.execution.tracing import FILE, _key
from engine.hardware.gpus import gpus
from engine.hardware.networks import network
from engine.host import this_host
from pages.parts.charts.roofline import roofline_figure
from pages.parts.theme import LIGHT
from storage import Storage
from tests.pages.conftest import words_of
from tests.pages.seed import seed_artifact

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
    assert "Projected, not measured" in words_of(app)


def test_a_roofline_of_what_was_not_measured_has_hollow_marks() -> None:
    point = {"name": "x", "kind": "matmul", "pass": "forward", "intensity": 10.0, "flops_per_second": 1e12, "share": 1.0, "count": 1, "bound": "memory"}
    data = {"device": "H100", "provenance": "projected", "ceilings": {"compute": {"bf16": 1e15}, "bandwidth": {"memory": 3e12}}, "points": [point]}
    figure = roofline_figure(data, LIGHT)
    assert figure.data[-1].marker.symbol == "diamond-open"
    assert "projected" in figure.data[-1].name
