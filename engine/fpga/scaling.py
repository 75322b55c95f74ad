"""What it costs that rows of linear layers have scales of their own: the host looks at each element of them and of the results.

Which layers' do is known once calibration has chosen (engine.fpga.integer_network); before,
it is assumed. Torch-free.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from engine.fpga.machine import Machine, RowScaling
from engine.fpga.placing import moves_nothing
from engine.hardware.operators import Operator, OperatorKind


def scaling_seconds(operators: Sequence[Operator], machine: Machine) -> list[float]:
    """For each operator what the host takes, in one execution, to scale the rows it reads and the results it gives."""
    host = machine.host
    if host is None:
        return [0.0] * len(operators)
    scaled = [machine.scaled.get(o.name) if _is_linear(o) else None for o in operators] if machine.scaled is not None else _assumed(operators)

    def look(elements: int, away: bool) -> float:
        way = 2 * (elements * machine.activation_bits / 8 / host.bytes_per_second + host.latency_seconds) if away else 0.0
        return elements / host.operations_per_second + way

    return [
        (look(o.input_elements, s.fetches) if s.first else 0.0) + look(o.output_elements, s.returns) if s else 0.0
        for o, s in zip(operators, scaled, strict=True)
    ]


def _assumed(operators: Sequence[Operator]) -> list[RowScaling | None]:
    """Linear layers that the host feeds and reads, none beside an attention; those in a row read the same rows."""
    found: list[RowScaling | None] = [None] * len(operators)
    moving = [(place, o) for place, o in enumerate(operators) if o.gemm is not None or not moves_nothing(o)]
    runs = [list(run) for _, run in groupby(moving, key=lambda item: _is_linear(item[1]))]
    for index, run in enumerate(runs):
        beside = [o for _, o in (*(runs[index - 1][-1:] if index else ()), *(r[0] for r in runs[index + 1 : index + 2]))]
        if _is_linear(run[0][1]) and not any(o.kind is OperatorKind.ATTENTION for o in beside):
            for number, (place, _) in enumerate(run):
                found[place] = RowScaling(first=number == 0, fetches=False, returns=False)
    return found


def _is_linear(operator: Operator) -> bool:
    return operator.kind is OperatorKind.MATMUL and operator.weight_elements > 0
