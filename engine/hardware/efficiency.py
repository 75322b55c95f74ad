"""What devices reach of their published peaks: at most four fitted numbers a generation (data/efficiency.toml).

Fitted by `python -m benchmarks.projection --fit` to the rows of benchmarks/gpu_rows.toml
that are marked so, and to no others.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache

from engine.hardware.entries import DATA


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """compute, conv and bandwidth: shares of the peak; kernel_seconds: from one kernel to the next in a graph.

    `band` is the factor within which nine of ten held-out rows lie (1.25: from
    -20 % to +25 %); `fitted` names what rests on rows of this very generation, the rest
    is borrowed from `ampere`.
    """

    generation: str
    compute: float
    conv: float
    bandwidth: float
    kernel_seconds: float
    band: float
    fitted: tuple[str, ...]


FILE = DATA / "efficiency.toml"
UNKNOWN_BAND = 1.6
"""Where no row of a generation is published: assumed."""


@cache
def _table() -> dict[str, Efficiency]:
    return {
        name: Efficiency(
            generation=name, compute=t["compute"], conv=t["conv"], bandwidth=t["bandwidth"],
            kernel_seconds=t["kernel_us"] * 1e-6, band=t["band"], fitted=tuple(t["fitted"]),
        )
        for name, t in tomllib.loads(FILE.read_text()).items()
    }  # fmt: skip


def efficiency_of(generation: str) -> Efficiency:
    """Fitted shares, or those of `other` for a generation nobody published rows of."""
    return _table().get(generation, _table()["other"])
