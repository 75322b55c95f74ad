"""Tiny models as a user would upload them, made once, and a storage to take them into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.domain.codec import as_data
from engine.domain.experiment import Progress
from engine.intake import service
from engine.intake.inspection import serve
from engine.requests import InspectRequest
from engine.settings import Settings
from tests import models


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.tiny_onnx(tmp_path_factory.mktemp("mlp"))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading happens in this process, not in a child: the same code, a second less a case."""

    def read(
        kind: str, request: InspectRequest, readable: Sequence[Path], scratch: Path, settings: Settings,
        report: Callable[[Progress], None],
    ) -> Any:  # fmt: skip
        assert kind == "inspect"
        return as_data(serve(request, report))

    monkeypatch.setattr(service, "read_in_child", read)


def unheard(_: Progress) -> None:
    return None
