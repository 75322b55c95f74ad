"""The run page of a placement on an FPGA: layers, roofline, resources, and what of it is no measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from engine.domain.experiment import Run
from engine.fpga.plan_file import PlanFile, Sampled
from engine.fpga.search import find_design
from engine.hardware.fpgas import fpga_of
from engine.hardware.networks import network
from engine.techniques.fpga.results import attachments_of
from storage import Storage
from tests.pages.conftest import words_of
from tests.pages.seed import seed_artifact, seed_experiment


def placement(name: str, board: str) -> PlanFile:
    """Of a published network, as if it had been executed."""
    plan = PlanFile.of(find_design(network(name, new_tokens=8), fpga_of(board)))
    return replace(plan, executed=True, sampled=Sampled(24, 24, 10**6, 10**5))


@pytest.fixture
def run(home: Storage) -> Run:
    return home.runs.of_experiment(seed_experiment(home, seed_artifact(home)).id)[1]


@pytest.mark.parametrize(("name", "board", "tables"), [("minilm-l6", "zcu104", 1), ("llama-7b", "alveo-u250", 2)])
def test_a_placement_is_drawn(
    name: str, board: str, tables: int, home: Storage, run: Run, open_page: Callable[..., AppTest]
) -> None:
    plan = placement(name, board)
    home.runs.record_attachments(run.id, home.runs.get(run.id).attempt, attachments_of(plan))
    app = open_page("run", query={"id": run.id})
    words = words_of(app)
    assert plan.title in words
    assert "of the array's peak" in words
    assert "mJ a call" in words or "J a call" in words
    assert "Assumed of the board: " in words
    assert "Placed and routed, a core of N = " in words and "The path that limits the best: " in words
    assert len(plan.passes) == tables
    table = next(d.value for d in app.dataframe if "Waits for" in d.value.columns)
    assert len(table) == len(plan.first.layers)
