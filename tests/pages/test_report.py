"""The standalone report: complete, offline, and harmless whatever users wrote."""

from __future__ import annotations

import json
import re

import pytest

from engine.domain.errors import NotFound
from engine.settings import Settings
from pages.parts.report import render_report
from storage import open_storage
from tests.pages.seed import seed_artifact, seed_experiment


def test_it_holds_the_comparison_and_loads_nothing(settings: Settings) -> None:
    storage = open_storage(settings)
    page = render_report(storage, seed_experiment(storage, seed_artifact(storage)).id)
    assert "quantization int8 · openvino is the fastest recipe" in page
    assert "onnxruntime has no bf16" in page
    head = page[: page.index("<script>")]
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", head)
    figures = json.loads(re.search(r"const FIGURES = (.*);\n", page).group(1))  # type: ignore[union-attr]
    assert set(figures) == {"light", "dark"}
    assert "scatter" in figures["light"]


def test_users_words_are_escaped(settings: Settings) -> None:
    storage = open_storage(settings)
    artifact = seed_artifact(storage, name="</script><img src=x onerror=alert(1)>")
    page = render_report(storage, seed_experiment(storage, artifact).id)
    assert "<img src=x" not in page


def test_an_unknown_experiment_has_no_report(settings: Settings) -> None:
    with pytest.raises(NotFound):
        render_report(open_storage(settings), "nothing")
