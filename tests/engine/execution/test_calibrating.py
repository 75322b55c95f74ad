"""Calibrating a host: really, but briefly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.cli import main
from engine.domain.calibration import Calibration, Precision
from engine.domain.codec import from_data
from engine.execution import calibrating
from engine.execution.calibrating import _band, _remarks
from engine.host import this_host
from engine.settings import Settings
from storage import open_storage


def test_a_host_is_measured_and_the_result_kept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    for name, value in {"PROCESSES": 2, "ROUNDS": 2, "_ROUND_SECONDS": 0.05, "_CEILING_SECONDS": 0.05}.items():
        monkeypatch.setattr(calibrating, name, value)
    out = tmp_path / "host.json"
    assert main(["calibrate", "--json", str(out)]) == 0
    told = from_data(Calibration, json.loads(out.read_text()))
    storage = open_storage(settings)
    assert storage.hosts.calibration(this_host().name) == told
    storage.close()
    cores = this_host().cores
    for threads in {1, cores}:
        assert (told.peak(Precision.FP32, threads) or 0) > 1e8
        assert (told.bandwidth(threads) or 0) > 1e7
    assert told.peak("fp32", cores + 1) is None
    assert (told.peak(Precision.INT8, 1) is None) is not this_host().has_vnni
    assert told.noise_band > 0 and told.pairs == 1 and told.canary_seconds > 0
    assert "GFLOP/s" in capsys.readouterr().out


def test_the_band_holds_what_equal_processes_differ() -> None:
    rng = np.random.default_rng(3)
    processes = rng.normal(0.0, 0.01, 200)
    rounds = processes + rng.normal(0.0, 0.002, (8, 200)) + rng.normal(0.0, 0.2, (8, 1))
    # 95 % of |x - y| for two draws of a normal with 1 %: 1.96 √2 %
    assert _band(rounds) == pytest.approx(0.0277, rel=0.15)


@pytest.mark.parametrize(
    ("steadiness", "busy", "words"), [(0.2, 1.0, "1.0 cores busy"), (0.2, 0.1, "pace changed by 20%"), (0.01, 0.1, "")]
)
def test_a_disturbed_calibration_says_so(steadiness: float, busy: float, words: str) -> None:
    told = "".join(_remarks(steadiness, busy))
    assert words in told and bool(told) == bool(words)
