"""What the operating system shows of accelerators; the driver's answers are played."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from engine.hardware import accelerators
from engine.hardware.accelerators import Accelerator


@pytest.mark.parametrize(
    ("says", "found"),
    [
        ("NVIDIA L4, 8.9\n", [Accelerator("cuda", "NVIDIA L4", has_fp8=True)]),
        ("Tesla T4, 7.5\nNVIDIA H100 80GB HBM3, 9.0\n", [Accelerator("cuda", "Tesla T4"), Accelerator("cuda", "NVIDIA H100 80GB HBM3", has_fp8=True)]),
        ("NVIDIA GeForce RTX 5090, 12.0\n", [Accelerator("cuda", "NVIDIA GeForce RTX 5090", has_fp8=True)]),
        ("Tesla K80, [N/A]\n", [Accelerator("cuda", "Tesla K80")]),
    ],
)
def test_nvidias_driver_tells_names_and_who_multiplies_fp8(says: str, found: list[Accelerator], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: True)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: subprocess.CompletedProcess(args, 0, says))
    assert accelerators._nvidia() == found


@pytest.mark.parametrize("devices", [(), (True,), (True, False)])
def test_a_host_has_fp8_where_all_its_devices_have(devices: tuple[bool, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerators, "usable", lambda: tuple(Accelerator("cuda", "a GPU", each) for each in devices))
    assert accelerators.device_formats() == (("fp8",) if devices == (True,) else ())
