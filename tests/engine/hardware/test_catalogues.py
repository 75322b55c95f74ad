"""The catalogues of hardware: complete, sourced and consistent."""

from __future__ import annotations

import pytest

from engine.domain.errors import NotFound
from engine.hardware.entries import SourceStatus
from engine.hardware.gpus import Gpu, gpu_of, gpus
from engine.hardware.links import link_of, links

WANTED = {
    "t4", "l4", "a10", "a100-40", "a100-80", "h100", "h200", "b200", "rtx4090", "rtx5090", "mi300x", "arc-b580", "m4-max",
    "jetson-agx-orin",
}  # fmt: skip


def test_catalogue_has_the_devices_people_ask_for() -> None:
    assert {gpu.id for gpu in gpus()} >= WANTED


@pytest.mark.parametrize("entry", [*gpus(), *links()], ids=lambda e: e.id)
def test_every_entry_has_a_source_and_a_status(entry: object) -> None:
    assert len(entry.source) > 10  # type: ignore[attr-defined]
    assert entry.status in SourceStatus  # type: ignore[attr-defined]


@pytest.mark.parametrize("gpu", gpus(), ids=lambda g: g.id)
def test_what_is_assumed_is_named_and_what_is_verified_says_by_whom(gpu: Gpu) -> None:
    assert set(gpu.assumed) <= {"launch_us", "power_w", *gpu.peaks} and "launch_us" in gpu.assumed
    assert (gpu.status is not SourceStatus.VERIFIED) or "measured" in gpu.checked


def test_ids_are_unique() -> None:
    for entries in (gpus(), links()):
        ids = [e.id for e in entries]
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("gpu", gpus(), ids=lambda g: g.id)
def test_sizes_are_of_the_right_order(gpu: object) -> None:
    assert 4e9 <= gpu.memory_bytes <= 1e12  # type: ignore[attr-defined]
    assert 5e10 <= gpu.bandwidth <= 2e13  # type: ignore[attr-defined]
    assert 1e12 <= gpu.peak("fp32") <= gpu.peak("tf32") <= gpu.peak("fp16") <= gpu.peak("int8")  # type: ignore[attr-defined]


def test_a_format_without_units_falls_back() -> None:
    assert gpu_of("t4").computes("bf16") == "fp16"
    assert gpu_of("a100-80").computes("fp8") == "fp16"
    assert gpu_of("m1").computes("int4") == "fp16"
    assert gpu_of("t4").computes("tf32") == "fp32"


def test_unknown_ids_name_the_known_ones() -> None:
    with pytest.raises(NotFound, match="h100"):
        gpu_of("h1000")
    with pytest.raises(NotFound, match="nvlink4"):
        link_of("nvlink")


def test_a_message_takes_latency_and_size_over_bandwidth() -> None:
    link = link_of("ethernet-1g")
    assert link.seconds(125e6) == pytest.approx(1.0 + link.latency)
