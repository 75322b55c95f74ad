"""The catalogue of accelerators (data/gpus.toml): what their vendors say they can do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from engine.hardware.entries import SourceStatus, pick, tables
from engine.hardware.links import Link, link_of

FALLBACK = {"int4": "int8", "fp4": "fp8", "fp8": "fp16", "bf16": "fp16", "fp16": "fp32", "tf32": "fp32", "int8": "fp16"}
"""What arithmetic a device does instead of a format it has no units for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """An accelerator. Peaks in FLOP/s (OP/s), dense; bytes, bytes/s, watts, seconds."""

    id: str
    name: str
    vendor: str
    generation: str
    use: str
    """datacenter, desktop, laptop or edge."""
    memory_bytes: int
    bandwidth: float
    power_watts: float
    launch_seconds: float
    """Host time to launch one kernel, without a graph."""
    peaks: dict[str, float]
    source: str
    status: SourceStatus
    link: Link | None
    """To the next device of its kind, where there is one."""
    host_link: Link
    unified_memory: bool = False
    checked: str = ""
    """A second source that agrees, and in what; empty where none was found."""
    assumed: tuple[str, ...] = ()
    """Names of the figures that nobody published."""
    shown_as: tuple[str, ...] = ()
    """What its driver calls it, where that is not `name`."""

    def computes(self, format: str) -> str:
        """The format whose units do the arithmetic of `format` here."""
        while format not in self.peaks:
            format = FALLBACK[format]
        return format

    def peak(self, format: str) -> float:
        """FLOP/s of arithmetic in `format`, or in what the device does instead."""
        return self.peaks[self.computes(format)]


@cache
def gpus() -> tuple[Gpu, ...]:
    return tuple(
        Gpu(
            id=t["id"], name=t["name"], vendor=t["vendor"], generation=t["generation"], use=t["use"],
            memory_bytes=int(t["memory_gb"] * 1e9), bandwidth=t["bandwidth_gb_s"] * 1e9, power_watts=t["power_w"],
            launch_seconds=t["launch_us"] * 1e-6, peaks={name: value * 1e12 for name, value in t["peak"].items()},
            source=t["source"], status=SourceStatus(t["status"]),
            link=link_of(t["link"]) if "link" in t else None, host_link=link_of(t["host_link"]),
            unified_memory=t.get("unified_memory", False), checked=t.get("checked", ""), assumed=tuple(t["assumed"]),
            shown_as=tuple(t.get("shown_as", ())),
        )
        for t in tables("gpus.toml", "gpu")
    )  # fmt: skip


def gpu_shown_as(name: str) -> Gpu | None:
    """The one that a driver calls so; None where the catalogue lacks it."""
    return next((gpu for gpu in gpus() if name in (gpu.name, *gpu.shown_as)), None)


def gpu_of(id: str) -> Gpu:
    """Raises NotFound."""
    return pick(gpus(), id, "device")
