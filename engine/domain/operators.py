"""Where the time of one call goes: its operators, as the runtime's own profiler saw them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MOST_ROWS = 200
OTHER = "other"
"""Type of the row that sums up what does not fit."""
OVERHEAD = "between operators"
"""Type of the row for time in which no operator ran: Python, dispatch, bookkeeping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTime:
    """One operator of one call of the model (a causal LM: of one whole generation)."""

    type: str
    """What it computes, in the runtime's words: `linear`, `MatMul`, `FullyConnected`."""
    name: str
    """Its name in the graph, or the layer's where operators have none."""
    layer: str = ""
    """The module it belongs to, as a dotted path; empty where the runtime does not know."""
    calls: int
    """How often it ran in one call of the model."""
    ms: float
    """Self time in one call of the model, over all threads' common clock."""
    kernel: str = ""
    """The implementation that ran, where the runtime names it."""
    precision: str = ""
    """Number format of its arithmetic (fp32, bf16, int8, int4), where it is known."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """Of its inputs, where they are known."""
    flops: float = 0.0
    """Of all its calls (see engine.measure.work); 0 where it does no arithmetic or nobody knows."""
    bytes: float = 0.0
    """Of all tensors that its calls read and write, each once a call; 0 where nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorProfile:
    """`operators`: the longest first; their `ms` add up to `total_ms`.

    It is taken after all timed rounds on a model of its own (or one that is not timed any
    more), so it may be slower than the latency that is reported; only shares are compared.
    """

    source: str
    """Whose counters: `torch.profiler`, `onnxruntime`, `openvino`."""
    operators: tuple[OperatorTime, ...]
    total_ms: float
    profiled_calls: int

    def share(self, operator: OperatorTime) -> float:
        """Of a call's time, in [0, 1]."""
        return operator.ms / self.total_ms if self.total_ms else 0.0


def profile_of(source: str, operators: Iterable[OperatorTime], profiled_calls: int) -> OperatorProfile:
    """The longest operators, and one row that sums up the rest."""
    ordered = sorted(operators, key=lambda o: -o.ms)
    total = sum(o.ms for o in ordered)
    kept, rest = ordered[: MOST_ROWS - 1], ordered[MOST_ROWS - 1 :]
    if len(rest) == 1:
        kept, rest = ordered, []
    if rest:
        summed = OperatorTime(
            type=OTHER, name=f"{len(rest)} more", calls=sum(o.calls for o in rest), ms=sum(o.ms for o in rest)
        )
        kept = sorted([*kept, summed], key=lambda o: -o.ms)
    return OperatorProfile(source=source, operators=tuple(kept), total_ms=total, profiled_calls=profiled_calls)
