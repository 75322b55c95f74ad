"""The whole line in a real browser: upload, choose, run, compare, share with a guest."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.models import tiny_bert

RECIPES = "pruning(sparsity=0.5)@onnxruntime\nquantization(format=bf16)@onnxruntime"
MINUTE = 60_000


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_from_an_upload_to_a_link_that_a_guest_opens(dashboard: str, browser: Browser, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "my-encoder"), "zip", tiny_bert(tmp_path / "model"))
    owner = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    errors: list[str] = []
    owner.on("pageerror", lambda error: errors.append(str(error)))

    owner.goto(dashboard)
    with owner.expect_file_chooser() as chooser:
        owner.get_by_role("button", name="Choose file").click()
    chooser.value.set_files(archive)
    artifact = _artifact_id(owner, "my-encoder")

    owner.goto(
        f"{dashboard}/new_experiment?artifact={artifact}&suggested=false&sequence_length=16&rounds=3&processes=1&round_seconds=0.05"
    )
    owner.get_by_role("textbox", name="Recipes, one a line").fill(RECIPES)
    owner.get_by_role("textbox", name="Recipes, one a line").press("Control+Enter")
    expect(owner.get_by_text("has no bf16").first).to_be_visible(timeout=MINUTE)
    owner.get_by_role("button", name="Launch 2 runs").click()

    expect(owner.get_by_text("Latency distribution").or_(owner.get_by_role("heading", name="Runs"))).to_be_visible(
        timeout=5 * MINUTE
    )
    expect(owner.get_by_text("Running:")).to_have_count(0, timeout=5 * MINUTE)
    expect(owner.get_by_test_id("stPlotlyChart").first).to_be_visible(timeout=MINUTE)
    owner.reload()
    expect(owner.get_by_role("heading", name="Runs")).to_be_visible(timeout=MINUTE)

    link = _share(owner)
    guest = browser.new_context(viewport={"width": 400, "height": 900}).new_page()
    loaded: list[str] = []
    guest.on("request", lambda request: loaded.append(request.url))
    guest.goto(link)
    expect(guest.get_by_role("heading", name="Runs")).to_be_visible()
    expect(guest.get_by_text("baseline · eager").first).to_be_visible()
    expect(guest.locator("#scatter .main-svg").first).to_be_visible()
    assert {url for url in loaded if not url.startswith(("data:", "blob:"))} == {link}
    assert guest.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert errors == []


def _artifact_id(page: Page, name: str) -> str:
    """Waits until the model is in the list, then reads where its name leads."""
    link = page.get_by_test_id("stMain").get_by_role("link", name=name)
    expect(link).to_be_visible(timeout=2 * MINUTE)
    return str(link.get_attribute("href")).split("?id=")[1].split("&")[0]


def _share(page: Page) -> str:
    page.get_by_role("button", name="Share").click()
    page.get_by_role("button", name="Make a link").click()
    shown = page.get_by_test_id("stCode").filter(has_text="/s/")
    expect(shown).to_be_visible(timeout=MINUTE)
    link = shown.inner_text().strip()
    with urlopen(link) as answer:
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    return link
