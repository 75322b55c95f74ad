"""The synthesis of a run's core from its page, in a real browser: started, stopped, failed, finished. The tools are stand-ins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from engine.fpga.plan_file import PlanFile
from engine.fpga.search import find_design
from engine.hardware.fpgas import fpga_of
from engine.hardware.networks import network
from engine.settings import Settings
from engine.techniques.fpga.results import attachments_of
from storage import open_storage
from tests.pages.seed import seed_artifact, seed_experiment
from tests.synthesis_tools import SLOW_SEEDS, install_tools

MINUTES = 240_000
"""For each step: a busy machine is slow to draw a page."""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third seed takes longer than anybody waits."""
    monkeypatch.setenv("PYTHONPATH", str(install_tools(tmp_path / "site")))
    monkeypatch.setenv(SLOW_SEEDS, "3")


@pytest.fixture
def runs(dashboard: str, tmp_path: Path) -> list[str]:
    """Addresses of two placements of which nothing was synthesised: of 12 × 12 with 8 bits, and with 5."""
    storage = open_storage(Settings.from_environment({"SPEEDRAIL_HOME": str(tmp_path / "home")}))
    placement = PlanFile.of(find_design(network("minilm-l6"), fpga_of("ecp5-85f")))
    addresses = []
    for run, width in zip(storage.runs.of_experiment(seed_experiment(storage, seed_artifact(storage)).id)[1:], (8, 5), strict=False):
        plan = replace(placement, size=12, width=width)
        storage.runs.record_attachments(run.id, run.attempt, attachments_of(plan))
        addresses.append(f"{dashboard}/run?id={run.id}")
    return addresses


@pytest.mark.e2e
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("tools")
def test_a_core_is_synthesised_from_the_page_of_a_run(runs: list[str], browser: Browser) -> None:
    page = _page(browser, runs[0])
    expect(page.get_by_text("this is the nearest that was synthesised")).to_be_visible(timeout=MINUTES)
    page.get_by_role("button", name="Synthesize N = 12").click()
    expect(page.get_by_text("Synthesizing N = 12: place and route, seed 3")).to_be_visible(timeout=MINUTES)
    expect(page.get_by_text("a core of N = 12 reaches")).to_be_visible(timeout=MINUTES)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("It was stopped.")).to_be_visible(timeout=MINUTES)
    expect(page.get_by_text("101 to 102 MHz")).to_be_visible(timeout=MINUTES)
    expect(page.get_by_text("placed again it takes this clock")).to_be_visible(timeout=MINUTES)
    expect(page.get_by_role("button", name="Synthesize N = 12")).to_be_visible(timeout=MINUTES)


@pytest.mark.e2e
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("tools")
def test_a_synthesis_that_fails_says_so_on_the_page(runs: list[str], browser: Browser) -> None:
    page = _page(browser, runs[1])
    expect(page.get_by_text("No core of this width was placed and routed yet")).to_be_visible(timeout=MINUTES)
    page.get_by_role("button", name="Synthesize N = 12").click()
    expect(page.get_by_text("The last synthesis ended early: ").filter(has_text="yosys failed on the core")).to_be_visible(timeout=MINUTES)


def _page(browser: Browser, address: str) -> Page:
    page = browser.new_page()
    page.set_default_timeout(MINUTES)
    page.goto(address)
    return page
