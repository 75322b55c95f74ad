"""Workers on accelerators: each has a device of its own, or is told that there is none for it."""

from __future__ import annotations

import pytest
import torch

from engine.domain.deployment import Placement
from engine.domain.errors import StageError
from engine.executors.spread.part import Place, take_device


def test_each_worker_takes_the_device_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "set_device_index", taken.append)
    assert [take_device(Placement(device="cuda"), Place(rank, 2, device=rank)) for rank in range(2)] == ["cuda", "cuda"]
    assert taken == [0, 1]
    with pytest.raises(StageError, match="Worker 3 has no device of its own: this host has 2") as refused:
        take_device(Placement(device="cuda"), Place(0, 1, device=2))
    assert "at most 2" in refused.value.mend


def test_on_the_cpu_nobody_needs_a_device() -> None:
    assert take_device(Placement(), Place(5, 6, device=5)) == "cpu"
