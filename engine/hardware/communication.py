"""What cutting a model over devices costs: latency and throughput from one device's profile and a link.

Tensor parallel over n devices: `T(n) = a·T1 + γ + L·AR(bytes)`, with a = s/n + (1 − s) for the share s of
T1 that is split, γ the fixed cost that appears as soon as there is more than one device (without it held-out rows
came out 29 % too fast), and L collectives a call, each an all-reduce that moves what a ring moves in the steps of a
tree, `AR(bytes) = k·2(n−1)/n · bytes/bandwidth + κ·log2(n)·α` with k and κ what bytes and steps cost over the link's
own figures. Pipeline: fill and drain of a GPipe schedule. Torch-free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engine.hardware.links import Link

MOST_DEVICES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """split: share of T1 that divides by the devices. fixed: γ, in seconds a call. moving: k. stepping: κ."""

    split: float = 1.0
    fixed: float = 0.0
    moving: float = 1.0
    stepping: float = 1.0


def all_reduce_seconds(size: float, devices: int, link: Link, calibration: Calibration = Calibration()) -> float:
    """Of `size` bytes over `devices`; 0 for one."""
    if devices == 1:
        return 0.0
    moved = 2 * (devices - 1) / devices * size / link.bandwidth
    return calibration.moving * moved + calibration.stepping * math.ceil(math.log2(devices)) * link.latency


def tensor_seconds(
    single: float, devices: int, *, collectives: int, size: float, link: Link, calibration: Calibration
) -> float:
    """One call that takes `single` seconds on one device. size: bytes of each of its collectives."""
    if devices == 1:
        return single
    divided = calibration.split / devices + (1 - calibration.split)
    communication = collectives * all_reduce_seconds(size, devices, link, calibration)
    return divided * single + calibration.fixed + communication


def pipeline_seconds(stages: Sequence[float], microbatches: int, *, size: float, link: Link) -> float:
    """One call. stages: seconds of one microbatch on each device; size: bytes handed on for one.

    The first microbatch passes all stages and links; each further one comes out a slowest step later.
    """
    hop = link.seconds(size) if len(stages) > 1 else 0.0
    return sum(stages) + (len(stages) - 1) * hop + (microbatches - 1) * max(*stages, hop)


def pipeline_calls_per_second(stages: Sequence[float], *, size: float, link: Link) -> float:
    """Calls of one microbatch that follow each other without end."""
    return 1 / max(*stages, link.seconds(size) if len(stages) > 1 else 0.0)
