"""The words of the command line that are neither recipes nor workloads."""

from __future__ import annotations

import re

from engine.domain.errors import InvalidInput
from engine.domain.workload import Target, TargetMetric

_TARGET = re.compile(r"\s*(\w+)\s*(<=|>=|≤|≥)\s*([0-9.eE+-]+)\s*([A-Za-z/]*)\s*")
_UNITS = {
    TargetMetric.LATENCY: {"": 1.0, "ms": 1.0, "s": 1e3},
    TargetMetric.THROUGHPUT: {"": 1.0, "items/s": 1.0, "tokens/s": 1.0},
    TargetMetric.SIZE: {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9},
}
_EXAMPLE = "Write for example 'latency<=15' (ms), 'throughput>=100' (items/s) or 'size<=50MB'."


def parse_target(text: str) -> Target:
    """A target such as `latency<=15`. Raises InvalidInput."""
    found = _TARGET.fullmatch(text)
    if not found:
        raise InvalidInput(f"{text!r} is not a target.", mend=_EXAMPLE, where="--target")
    name, relation, number, unit = found.groups()
    try:
        metric = TargetMetric(name)
        bound = float(number) * _UNITS[metric][unit.lower()]
    except (ValueError, KeyError):
        raise InvalidInput(f"{text!r} is not a target.", mend=_EXAMPLE, where="--target") from None
    at_least = relation in (">=", "≥")
    if at_least != (metric is TargetMetric.THROUGHPUT):
        wanted = ">=" if metric is TargetMetric.THROUGHPUT else "<="
        raise InvalidInput(f"A target for {metric} is written {metric}{wanted}….", mend=_EXAMPLE, where="--target")
    return Target(metric, bound)
