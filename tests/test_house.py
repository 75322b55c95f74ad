"""The dashboard and the worker never load torch; generated pages of the documentation are current."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from engine.settings import Settings

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "transformers", "openvino", "onnxruntime", "nncf", "torchao", "onnx")


@pytest.mark.parametrize(
    "modules",
    [
        "engine.catalogue, engine.grammar, engine.plan, engine.grid, engine.suggest, engine.launch, engine.queue",
        "engine.worker, engine.execution.execute, engine.sandbox, engine.compare.recommend, storage, engine.intake.service",
        "app, pages.parts.charts, pages.parts.forms",
    ],
)
def test_light_processes_never_load_torch(modules: str) -> None:
    script = f"import sys, {modules}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    documented = set(re.findall(r"^\| `(SPEEDRAIL_\w+)`", page, flags=re.MULTILINE))
    assert documented == {f"SPEEDRAIL_{field.name.upper()}" for field in fields(Settings)}


def test_the_techniques_page_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "engine", "techniques", "--markdown"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in (ROOT / "docs/techniques.md").read_text(), (
        "Run python -m engine techniques --markdown and put its output into docs/techniques.md"
    )


def test_every_part_of_the_pages_can_be_the_first_to_be_imported() -> None:
    files = (ROOT / "pages" / "parts").rglob("*.py")
    parts = sorted(".".join(p.relative_to(ROOT).with_suffix("").parts) for p in files if p.name != "__init__.py")
    code = (
        "import importlib, sys\n"
        f"for name in {parts!r}:\n"
        "    for other in [m for m in sys.modules if m.partition('.')[0] == 'pages']:\n"
        "        del sys.modules[other]\n"
        "    importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
