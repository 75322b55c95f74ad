"""The Pareto front against its definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.compare.pareto import front, front_of
from engine.domain.experiment import RunStatus
from tests.engine.compare.runs import experiment, run

POINTS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=30)


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] >= b[0] and a[1] >= b[1] and a != b


@given(POINTS)
def test_exactly_the_undominated_are_kept(points: list[tuple[float, float]]) -> None:
    kept = front(points)
    assert sorted(kept) == [i for i, p in enumerate(points) if not any(dominates(q, p) for q in points)]


@given(POINTS)
def test_the_front_falls_in_speed_and_rises_in_quality(points: list[tuple[float, float]]) -> None:
    kept = [points[i] for i in front(points)]
    assert kept == sorted(kept, key=lambda p: (-p[0], p[1]))


def test_runs_on_the_front() -> None:
    runs = [
        run(""),
        run("quantization(format=int8)@openvino", 3.9, 0.996),
        run("quantization(format=int8)@onnxruntime", 2.7, 0.992),
        run("@openvino", 1.5, 1.0),
        run("@inductor", status=RunStatus.FAILED),
        run("pruning()", 9.0, None),
    ]
    assert front_of(experiment(), runs) == {"quantization(format=int8)@openvino", "@openvino"}
