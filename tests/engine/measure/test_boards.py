"""NVIDIA boards, on an NVML that is played."""

# ruff: noqa: N802 (the names are the driver's)

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.measure.boards import BoardWatch, board_meter, boards
from engine.measure.energy import host_meter


class NVMLError(Exception):
    """As pynvml's."""


class PlayedNvml:
    """What the driver would say of one board; None: it does not support the question."""

    NVMLError = NVMLError

    def __init__(self) -> None:
        self.millijoules: int | None = 1000
        self.violations: dict[int, int] | None = {0: 0, 1: 0}
        self.reasons = 0
        self.processes: dict[int, int | None] = {}
        self.works = True

    def nvmlInit(self) -> None:
        if not self.works:
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"NVIDIA T4"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return self._supported(self.millijoules)

    def nvmlDeviceGetViolationStatus(self, handle: int, policy: int) -> Any:
        return SimpleNamespace(violationTime=self._supported(self.violations)[policy])

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:
        return self.reasons

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self.processes.items()]

    @staticmethod
    def _supported(value: Any) -> Any:
        if value is None:
            raise NVMLError("Not Supported")
        return value


@pytest.fixture
def driver() -> PlayedNvml:
    return PlayedNvml()


def test_a_board_without_a_driver_is_no_board(driver: PlayedNvml) -> None:
    driver.works = False
    assert boards(driver) == ()
    assert board_meter(()) is None


def test_joules_are_the_counters_difference(driver: PlayedNvml) -> None:
    found = boards(driver)
    assert [board.name for board in found] == ["NVIDIA T4"]
    meter = board_meter(found)
    assert meter is not None
    before = meter.read()
    driver.millijoules = 4500
    assert meter.read() - before == pytest.approx(3.5)
    driver.millijoules = None
    assert board_meter(found) is None


def test_the_boards_joules_are_added_to_the_processors(driver: PlayedNvml, tmp_path: Any) -> None:
    alone = host_meter(tmp_path, boards(driver))
    assert alone is not None and alone.read() == pytest.approx(1.0)
    (tmp_path / "intel-rapl:0").mkdir()
    for file, text in (("name", "package-0"), ("energy_uj", "0"), ("max_energy_range_uj", "10000000")):
        (tmp_path / "intel-rapl:0" / file).write_text(text)
    both = host_meter(tmp_path, boards(driver))
    assert both is not None
    before = both.read()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("2000000")
    driver.millijoules = 1500
    assert both.read() - before == pytest.approx(2.5)


def test_clocks_that_were_held_back_are_told_with_their_cause(driver: PlayedNvml) -> None:
    watch = BoardWatch(boards(driver))
    watch.look([])
    assert watch.remarks() == ()
    driver.violations = {0: 0, 1: 1_200_000_000}
    (said,) = watch.remarks()
    assert "for 1.2 s by heat" in said


def test_without_counters_the_reasons_of_the_moment_are_counted(driver: PlayedNvml) -> None:
    driver.violations = None
    watch = BoardWatch(boards(driver))
    driver.reasons = 0x1  # idle
    watch.look([])
    driver.reasons = 0x40
    watch.look([])
    (said,) = watch.remarks()
    assert "after 1 of 2 rounds by heat" in said


def test_strangers_on_the_board_are_named_and_our_own_are_not(driver: PlayedNvml) -> None:
    driver.processes = {10: 2_000_000_000, 20: 4_200_000_000, 30: None}
    watch = BoardWatch(boards(driver))
    watch.look([10])
    (said,) = watch.remarks()
    assert "20 (4.2 GB), 30)" in said and "10 (" not in said
