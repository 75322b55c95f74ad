"""The first sentence in every situation a user can meet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compare.recommend import recommend
from engine.domain.experiment import Run, RunStatus
from engine.domain.metrics import Verdict
from tests.engine.compare.runs import experiment, run

INT8 = run("quantization(format=int8)@openvino", 3.9, 0.996, latency=5.1, size=23e6, throughput=196.0)
PRUNED = run("pruning(sparsity=0.5)@openvino", 5.0, 0.73, latency=4.0, size=60e6, throughput=250.0)
PLAIN = run("@openvino", 1.5, 1.0, latency=13.3, size=90e6, throughput=75.0)
BASELINE = run("", latency=20.0, size=90e6, throughput=50.0)


def test_the_fastest_that_meets_everything() -> None:
    found = recommend(experiment(("latency", 15)), [BASELINE, INT8, PRUNED, PLAIN])
    assert found.run_id == INT8.id and found.meets
    assert found.sentence == (
        "quantization(format=int8)@openvino is the fastest recipe that meets latency ≤ 15 ms and quality ≥ 99 %: "
        "3.90× (3.82–3.98), 5.1 ms, 99.6 % quality."
    )


def test_without_a_target_the_guard_rail_alone() -> None:
    found = recommend(experiment(), [BASELINE, INT8, PRUNED])
    assert found.run_id == INT8.id
    assert found.sentence.startswith(
        "quantization(format=int8)@openvino is the fastest recipe that meets the guard-rail of quality ≥ 99 %: 3.90×"
    )


def test_nobody_meets_the_target() -> None:
    found = recommend(experiment(("latency", 4.5)), [BASELINE, INT8, PRUNED, PLAIN])
    assert found.run_id == INT8.id and not found.meets
    assert found.sentence == (
        "No recipe meets latency ≤ 4.5 ms and quality ≥ 99 %; the nearest is quantization(format=int8)@openvino: "
        "3.90× (3.82–3.98), 5.1 ms, 99.6 % quality."
    )


def test_nobody_keeps_the_guard_rail_within_the_target() -> None:
    found = recommend(experiment(("latency", 4.5)), [BASELINE, PRUNED])
    assert found.run_id == PRUNED.id and not found.meets
    assert "73.0 % quality" in found.sentence


def test_size_and_throughput_are_targets_too() -> None:
    small = recommend(experiment(("size", 50e6)), [BASELINE, INT8, PRUNED, PLAIN])
    assert small.run_id == INT8.id and "size ≤ 50 MB" in small.sentence and "23 MB" in small.sentence
    quick = recommend(experiment(("throughput", 60)), [BASELINE, INT8, PLAIN])
    assert quick.run_id == INT8.id and "throughput ≥ 60 items/s" in quick.sentence


def test_what_cannot_be_told_from_the_baseline_does_not_beat_it() -> None:
    found = recommend(experiment(), [BASELINE, run("@inductor", 1.03, 1.0)])
    assert found.run_id == BASELINE.id and found.meets
    assert found.sentence == "No recipe that meets the guard-rail of quality ≥ 99 % is distinguishably faster than the baseline."


def test_a_target_met_without_being_faster() -> None:
    small = run("quantization(format=int8)", 1.01, 0.995, latency=20.0, size=23e6)
    found = recommend(experiment(("size", 50e6)), [BASELINE, small])
    assert found.run_id == small.id
    assert "meets size ≤ 50 MB and quality ≥ 99 %, but is not distinguishable compared with the baseline" in found.sentence
    slow = run("quantization(format=int8)", 0.5, 0.995, Verdict.SLOWER, latency=40.0, size=23e6)
    assert "but is slower compared with the baseline" in recommend(experiment(("size", 50e6)), [BASELINE, slow]).sentence


def test_quality_just_below_the_guard_rail_never_reads_as_meeting_it() -> None:
    found = recommend(experiment(("latency", 15)), [run("", latency=20.0), run("@openvino", 2.0, 0.98996, latency=10.0)])
    assert not found.meets
    assert "98.9 % quality" in found.sentence


def test_before_anything_is_measured() -> None:
    queued = [run("", status=RunStatus.QUEUED, quality=None)]
    assert recommend(experiment(), queued).sentence == "Nothing has been measured yet."
    assert recommend(experiment(), []).sentence == "Nothing has been measured yet."
    failed = [run("", status=RunStatus.FAILED, quality=None)]
    assert recommend(experiment(), failed).sentence == "No run succeeded, so there is nothing to compare."


def test_while_runs_are_open_it_says_so() -> None:
    queued = run("@inductor", status=RunStatus.QUEUED)
    assert recommend(experiment(), [BASELINE, INT8, queued]).sentence.startswith("So far, quantization(format=int8)")
    assert recommend(experiment(("latency", 1)), [BASELINE, queued]).sentence.startswith("So far, no recipe meets")


@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.one_of(st.none(), st.floats(0, 1.2)), st.floats(0.1, 100)), max_size=8),
    st.sampled_from([None, ("latency", 15.0), ("size", 1.0), ("throughput", 10.0)]),
    st.floats(0, 1),
)
def test_it_always_names_a_run_it_was_given(
    values: list[tuple[float, float | None, float]], target: tuple[str, float] | None, guard_rail: float
) -> None:
    runs: list[Run] = [BASELINE]
    runs += [run(f"pruning(sparsity=0.{i}1)", s, q, latency=ms) for i, (s, q, ms) in enumerate(values)]
    found = recommend(experiment(target, guard_rail), runs)
    named = next(r for r in runs if r.id == found.run_id)
    if found.meets:
        assert (named.value("quality") or 0.0) >= guard_rail
    assert found.sentence.endswith(".")


@pytest.mark.parametrize("guard_rail", [0.0, 0.5, 1.0])
def test_the_words_of_a_run_can_be_given(guard_rail: float) -> None:
    found = recommend(experiment(guard_rail=guard_rail), [BASELINE, run("@openvino", 2.0, 1.0)], words=lambda r: "Openvino")
    assert found.sentence.startswith("Openvino is the fastest recipe")
