"""Blocks with children that are played: order, failures, memory, the canary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.domain.errors import Cancelled, ChildError, StageError
from engine.domain.workload import Workload
from engine.measure import block as block_module
from engine.measure.block import SLICE_SECONDS, Block
from engine.measure.canary import Canary, drift
from tests.engine.measure.played import LIMITS, LM, Played, Stage, candidates


@pytest.fixture(autouse=True)
def songs(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the canary sings next; 1.0 when the list is empty."""
    queue: list[float] = []
    monkeypatch.setattr(Canary, "sing", lambda self: queue.pop(0) if queue else 1.0)
    return queue


def test_everybody_has_a_turn_in_every_round_and_the_order_changes() -> None:
    stage = Stage()
    with Block(3, candidates("bxy"), start=stage, limits=LIMITS) as block:
        rounds = list(block.rounds(6, first=2))
    assert [[r.index for r in turns] for turns in rounds] == [[i] * 3 for i in range(2, 8)]
    assert {r.block for turns in rounds for r in turns} == {3}
    assert all(sorted(r.run_id for r in turns) == ["b", "x", "y"] for turns in rounds)
    turns = stage.turns()
    for place in range(3):
        assert sorted(turns[place::3]) == ["b", "b", "x", "x", "y", "y"]
    assert rounds[0][0].samples == {"latency": (10.0, 11.0)}
    assert all(child.killed for child in stage.children.values())


def test_two_runs_take_turns_at_being_first() -> None:
    stage = Stage()
    with Block(0, candidates("bx"), start=stage, limits=LIMITS) as block:
        list(block.rounds(4))
    assert "".join(stage.turns()) == "bxxbxbbx"


def test_a_round_is_cut_into_short_turns() -> None:
    stage = Stage()
    with Block(0, candidates("bx", workload=Workload(round_seconds=4 * SLICE_SECONDS)), start=stage, limits=LIMITS) as block:
        rounds = list(block.rounds(2))
    assert "".join(stage.turns()) == "bxxbxbbx" * 2
    assert [[(r.index, len(r.samples["latency"])) for r in turns] for turns in rounds] == [[(0, 8)] * 2, [(1, 8)] * 2]


def test_slow_calls_have_longer_turns() -> None:
    stage = Stage(warmup=500.0)
    with Block(0, candidates("bx", workload=Workload(round_seconds=4.0)), start=stage, limits=LIMITS) as block:
        list(block.rounds(1))
    assert len(stage.turns()) == 4


def test_shadows_take_turns_and_are_kept_apart() -> None:
    stage = Stage()
    baseline, other, partner = candidates("bxp")
    with Block(0, [baseline, other], shadows=[partner], start=stage, limits=LIMITS) as block:
        rounds = list(block.rounds(3))
        assert {m.run_id for m in block.results()} == {"b", "x"}
    assert stage.heard[:3] == [("request", "b"), ("request", "x"), ("request", "p")]
    assert all({r.run_id for r in turns} == {"b", "x"} for turns in rounds)
    assert [r.index for r in block.shadow_rounds["p"]] == [0, 1, 2]
    assert ("answers", "p") not in stage.heard


@pytest.mark.parametrize("when", ["start", "request", "round"])
def test_a_shadow_that_fails_is_nobodys_failure(when: str) -> None:
    stage = Stage({"p": when})
    baseline, other, partner = candidates("bxp")
    with Block(0, [baseline, other], shadows=[partner], start=stage, limits=LIMITS) as block:
        assert all(len(turns) == 2 for turns in block.rounds(2))
    assert block.failures == {} and block.shadow_rounds == {}


def test_a_shadow_leaves_memory_to_a_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 400

    monkeypatch.setattr(block_module.psutil, "virtual_memory", Memory)
    baseline, other, partner = candidates("bxp")
    with Block(0, [baseline, other], shadows=[partner], start=Stage(memory=100), limits=LIMITS) as block:
        assert {r.run_id for r in next(block.rounds(1))} == {"b", "x"}
    assert block.shadow_rounds == {}


def test_first_the_baseline_is_opened_then_the_others() -> None:
    stage = Stage()
    with Block(0, candidates("bxy"), start=stage, limits=LIMITS):
        assert stage.heard == [("request", "b"), ("request", "x"), ("request", "y")]


def test_results_are_scored_against_the_baselines_answers() -> None:
    stage = Stage()
    asked: list[Any] = []
    plain = Played.ask

    def ask(self: Played, message: dict[str, Any], **rest: Any) -> Any:
        asked.extend([message["answers"]] if "answers" in message else [])
        return plain(self, message, **rest)

    with pytest.MonkeyPatch.context() as patch, Block(0, candidates("bx"), start=stage, limits=LIMITS) as block:
        list(block.rounds(1))
        patch.setattr(Played, "ask", ask)
        measured = list(block.results())
    assert asked == [None, "b.npz"]
    assert Path("/scratch/b") in stage.readable["x"]
    assert [m.run_id for m in measured] == ["b", "x"]
    assert [o.first_call for o in measured[0].opened] == [30.0]
    assert measured[1].peak_memory_bytes == 100
    assert measured[1].items_per_call == 4
    assert measured[1].sandbox == "full"


def test_the_order_of_opening_is_another_in_every_block() -> None:
    orders = []
    for turn in range(10):
        stage = Stage()
        baseline, other, partner = candidates("bxp")
        with Block(turn, [baseline, other], shadows=[partner], start=stage, limits=LIMITS, turn=turn):
            orders.append("".join(name for kind, name in stage.heard if kind == "request"))
    assert orders[0] == "bxp"
    for place in range(3):
        assert {order[place] for order in orders} == {"b", "x", "p"}


def test_throughput_of_a_causal_lm_counts_new_tokens() -> None:
    with Block(0, candidates("b", LM), start=Stage(), limits=LIMITS) as block:
        list(block.rounds(1))
        assert next(block.results()).items_per_call == 4 * Workload().new_tokens


@pytest.mark.parametrize("when", ["start", "request", "round", "answers"])
def test_one_failure_does_not_stop_the_others(when: str) -> None:
    stage = Stage({"x": when})
    with Block(0, candidates("bxy"), start=stage, limits=LIMITS) as block:
        rounds = list(block.rounds(2))
        measured = [m.run_id for m in block.results()]
    assert [r.run_id for r in rounds[-1] if r.run_id != "x"] in (["b", "y"], ["y", "b"])
    assert measured == ["b", "y"]
    assert set(block.failures) == {"x"}
    assert block.failures["x"].what in ("Out of luck.", "It did not start.")
    assert when == "start" or stage.children["x"].killed


@pytest.mark.parametrize("when", ["start", "request", "round", "answers"])
def test_the_baselines_failure_is_raised_and_leaves_nothing(when: str) -> None:
    stage = Stage({"b": when})
    with pytest.raises((StageError, ChildError)), Block(0, candidates("bx"), start=stage, limits=LIMITS) as block:
        list(block.rounds(1))
        list(block.results())
    assert all(child.killed for child in stage.children.values())


def test_a_cancel_comes_through_and_is_nobodys_failure() -> None:
    stage = Stage()
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks > 4:
            raise Cancelled("Cancelled on request.")

    with (
        pytest.raises(Cancelled),
        Block(0, candidates("bx"), start=stage, limits=LIMITS, tick=tick) as block,
    ):
        list(block.rounds(5))
    assert block.failures == {}
    assert all(child.killed for child in stage.children.values())


def test_who_does_not_fit_in_memory_waits_for_another_block(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 600

    monkeypatch.setattr(block_module.psutil, "virtual_memory", Memory)
    with Block(0, candidates("bwxyz"), start=Stage(memory=100), limits=LIMITS) as block:
        assert [c.run_id for c in block.postponed] == ["y", "z"]
        assert {r.run_id for r in next(block.rounds(1))} == {"b", "w", "x"}


def test_a_block_always_has_one_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 10

    monkeypatch.setattr(block_module.psutil, "virtual_memory", Memory)
    with Block(0, candidates("bxy"), start=Stage(memory=100), limits=LIMITS) as block:
        assert [c.run_id for c in block.postponed] == ["y"]


def test_a_round_in_which_the_machine_drifted_is_repeated_once(songs: list[float]) -> None:
    stage = Stage()
    songs += [1.0, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1]
    with Block(0, candidates("bx"), start=stage, limits=LIMITS) as block:
        rounds = list(block.rounds(4, repeats=1))
    assert len(rounds) == 4
    assert len(stage.turns()) == 10
    assert [r.repeated for r in block.seen] == [True, False, False, False]
    assert all(r.drift < 0.05 for r in block.seen)


def test_a_machine_that_keeps_drifting_is_noisy_and_not_repeated_for_ever(songs: list[float]) -> None:
    stage = Stage()
    songs += [1.0, 1.2] * 10
    with Block(0, candidates("bx"), start=stage, limits=LIMITS) as block:
        assert len(list(block.rounds(8, repeats=2))) == 8
    assert len(stage.turns()) == 2 * (8 + 2)
    assert all(r.drift > 0.05 for r in block.seen)


def test_drift() -> None:
    assert drift([1.0, 1.05]) == pytest.approx(0.05)
    assert drift([1.05, 1.0]) == pytest.approx(0.05)
    assert drift([2.0]) == 0.0


def test_with_a_meter_every_turn_has_its_joules_an_item() -> None:
    class Meter:
        joules = 0.0

        def read(self) -> float:
            self.joules += 6.0
            return self.joules

    with Block(0, candidates("bx"), start=Stage(), limits=LIMITS, meter=Meter()) as block:
        (turns,) = block.rounds(1)
    # 6 J between two readings, 3 calls of 4 items
    assert [t.samples["energy"] for t in turns] == [(0.5,), (0.5,)]


def test_a_child_that_cannot_be_examined_keeps_its_result() -> None:
    with Block(0, candidates("bx"), start=Stage(fails_at={"b": "examine", "x": "examine"}), limits=LIMITS) as block:
        list(block.rounds(1))
        measured = list(block.results())
    assert [m.run_id for m in measured] == ["b", "x"]
    assert measured[0].examined is None and measured[0].unexamined == "Out of luck."
    assert block.failures == {}
