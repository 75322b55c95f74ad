"""RAPL's counters, on a powercap tree that is played."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.measure.energy import host_meter


def domain(root: Path, name: str, label: str, microjoules: int, most: int = 10_000_000) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    for file, text in (("name", label), ("energy_uj", str(microjoules)), ("max_energy_range_uj", str(most))):
        (folder / file).write_text(text + "\n")
    return folder


def test_packages_are_added_and_their_parts_are_not(tmp_path: Path) -> None:
    first = domain(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    second = domain(tmp_path, "intel-rapl:1", "package-1", 5_000_000)
    core = domain(tmp_path, "intel-rapl:0:0", "core", 500_000)
    meter = host_meter(tmp_path)
    assert meter is not None
    before = meter.read()
    for folder, now in ((first, 3_000_000), (second, 5_500_000), (core, 2_000_000)):
        (folder / "energy_uj").write_text(str(now))
    assert meter.read() - before == pytest.approx(2.5)


def test_a_counter_that_wraps_goes_on_upwards(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 9_500_000)
    meter = host_meter(tmp_path)
    assert meter is not None
    before = meter.read()
    (package / "energy_uj").write_text("250000")
    assert meter.read() - before == pytest.approx(0.75)


def test_without_a_meter_there_is_no_number(tmp_path: Path) -> None:
    assert host_meter(tmp_path) is None
    domain(tmp_path, "intel-rapl:0:0", "core", 1)
    assert host_meter(tmp_path) is None
