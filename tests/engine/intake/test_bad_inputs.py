"""Every bad upload gets a message that says what is wrong and what to do, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.domain.errors import IntakeError
from engine.intake.service import take_in
from engine.settings import Settings
from storage import Storage
from tests.engine.intake.conftest import unheard
from tests.engine.intake.corpus import BAD, Bad


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_is_refused_clearly(
    bad: Bad, tmp_path: Path, settings: Settings, storage: Storage, bert: Path, mlp: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    upload = bad.make(place, bert, mlp)
    before = contents(place)
    with pytest.raises(IntakeError) as caught:
        take_in(upload, "bad", upload.name, storage, settings, unheard)
    assert bad.says in caught.value.what
    assert bad.mends in caught.value.mend
    assert str(settings.home) not in str(caught.value)
    assert_nothing_kept(settings, storage)
    assert contents(place) == before
    assert not list(tmp_path.rglob("evil*"))


def assert_nothing_kept(settings: Settings, storage: Storage) -> None:
    assert storage.artifacts.list().total == 0
    assert contents(settings.home / "scratch") == []
    assert contents(settings.home / "store") == []


def contents(folder: Path) -> list[str]:
    """Names of files (not folders) below."""
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if not f.is_dir() or f.is_symlink())
