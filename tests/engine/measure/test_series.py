"""Series of blocks with children that are played: rounds shared out, what all blocks say together."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.experiment import Progress
from engine.measure.block import Block
from engine.measure.canary import Canary
from engine.measure.repetitions import FEWEST_PROCESSES, rounds_a_process
from engine.measure.series import Report, Series
from tests.engine.measure.played import LIMITS, WORKLOAD, Stage, candidates


@pytest.fixture(autouse=True)
def songs(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the canary sings next; 1.0 when the list is empty."""
    queue: list[float] = []
    monkeypatch.setattr(Canary, "sing", lambda self: queue.pop(0) if queue else 1.0)
    return queue


def series(
    names: str, stage: Stage, *, rounds: int = 6, left: int | None = None, processes: int = 3, first: int = 0,
    report: Report = lambda run_id, progress: None,
) -> Series:  # fmt: skip
    """The last of the names is the partner."""
    *taking_part, partner = candidates(names, workload=replace(WORKLOAD, rounds=rounds, processes=processes))
    make = partial(Block, shadows=[partner], start=stage, limits=LIMITS)
    return Series(first, taking_part, rounds if left is None else left, make, report)


def test_rounds_are_shared_by_fresh_processes_of_everybody() -> None:
    stage = Stage()
    with series("bxp", stage, first=4) as measured:
        rounds = [turn for turns in measured.rounds() for turn in turns]
        assert not stage.children["b"].killed  # what follows needs the last ones
    assert [kind for kind, name in stage.heard if name == "x"] == ["request", "round", "round"] * 3
    assert [(r.block, r.index) for r in rounds if r.run_id == "b"] == [(4, 0), (4, 1), (5, 2), (5, 3), (6, 4), (6, 5)]
    assert [(r.block, r.index) for r in measured.shadow_rounds["p"]] == [(r.block, r.index) for r in rounds if r.run_id == "x"]
    assert measured.noise.block == 4 and [r.index for r in measured.noise.rounds] == list(range(6))
    assert measured.blocks == 3 and all(child.killed for child in stage.children.values())


def test_what_is_left_goes_on_where_it_stopped() -> None:
    stage = Stage()
    with series("bxp", stage, rounds=6, left=3) as measured:
        assert [turns[0].index for turns in measured.rounds()] == [3, 4, 5]
    assert measured.blocks == 2


def test_with_no_round_left_results_are_still_to_be_had() -> None:
    stage = Stage()
    with series("bxp", stage, left=0) as measured:
        assert not list(measured.rounds())
        assert [m.run_id for m in measured.results()] == ["b", "x"]


def test_results_tell_of_all_processes() -> None:
    stage = Stage()
    with series("bxp", stage) as measured:
        for index, _ in enumerate(measured.rounds()):
            stage.children["x"].memory = 150 if index == 1 else 100
        found = {m.run_id: m for m in measured.results()}
    assert len(found["x"].opened) == 3
    assert found["x"].peak_memory_bytes == 150 and found["b"].peak_memory_bytes == 100


@pytest.mark.parametrize("when", ["start", "request", "round"])
def test_who_fails_once_is_not_opened_again(when: str) -> None:
    stage = Stage()
    with series("bxyp", stage) as measured:
        rounds = measured.rounds()
        next(rounds)
        next(rounds)
        stage.fails_at["x"] = when
        assert [{r.run_id for r in turns} - {"x"} for turns in rounds] == [{"b", "y"}] * 4
        assert [m.run_id for m in measured.results()] == ["b", "y"]
    assert set(measured.failures) == {"x"}
    assert [kind for kind, name in stage.heard if name == "x"].count("request") <= 2


def test_no_more_than_a_quarter_of_all_rounds_is_repeated(songs: list[float]) -> None:
    stage = Stage()
    songs += [1.0, 1.2] * 20
    with series("bxp", stage, rounds=8, processes=8) as measured:
        assert len(list(measured.rounds())) == 8
    assert sum(r.repeated for r in measured.noise.rounds) == 2 and measured.noise.is_noisy


def test_progress_never_goes_back() -> None:
    told: dict[str, list[Progress]] = {"b": [], "x": []}
    with series("bxp", Stage(), report=lambda run_id, progress: told[run_id].append(progress)) as measured:
        list(measured.rounds())
        list(measured.results())
    for each in told.values():
        fractions = [p.fraction for p in each]
        assert fractions == sorted(fractions) and fractions[0] == 0.0
        assert [p.stage for p in each].count("opening") == 1
        assert next(p for p in reversed(each) if p.stage == "measuring").seconds_left == 0.0


@given(st.integers(3, 1000), st.integers(0, 1000), st.floats(0, 1e3))
def test_everybody_has_a_round_and_all_are_used(rounds: int, processes: int, opening: float) -> None:
    share = rounds_a_process(rounds, processes, opening)
    assert 1 <= share <= rounds
    assert not processes or -(-rounds // share) <= processes
    assert processes or -(-rounds // share) >= min(FEWEST_PROCESSES, rounds) - 1


def test_what_opens_quickly_is_opened_for_every_round_and_what_opens_slowly_is_not() -> None:
    assert rounds_a_process(10, 0, 0.8) == 1
    assert 2 <= rounds_a_process(10, 0, 10.0) <= 3
    assert rounds_a_process(10, 0, 100.0) == 4
    assert rounds_a_process(10, 1, 0.0) == 10


def test_a_series_chooses_by_what_it_saw_of_opening() -> None:
    """Children that are played open at once."""
    with series("bxp", Stage(), rounds=4, processes=0) as measured:
        list(measured.rounds())
    assert measured.blocks == 4
