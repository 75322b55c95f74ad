"""Cuts against every possible cut; what the events of a call say."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.executors.spread.cuts import balance, choose_cuts, pieces
from engine.executors.spread.part import COMPUTE, LINK, Event
from engine.executors.spread.timeline import as_attachment, summarize

COSTS = st.lists(st.floats(0.0, 10.0), min_size=3, max_size=9)


def slowest(costs: list[float], links: list[float], cuts: tuple[int, ...]) -> float:
    edges = [-1, *cuts, len(costs) - 1]
    return max(
        sum(costs[a + 1 : b + 1]) + (links[b] if b in cuts else 0.0) for a, b in pairwise(edges)
    )


@given(COSTS, st.integers(2, 3), st.data())
def test_no_other_cut_has_a_faster_slowest_stage(costs: list[float], parts: int, data: st.DataObject) -> None:
    links = data.draw(st.lists(st.floats(0.0, 5.0), min_size=len(costs), max_size=len(costs)))
    found = choose_cuts(costs, links, parts)
    best = min(slowest(costs, links, cuts) for cuts in combinations(range(len(costs) - 1), parts - 1))
    assert found == sorted(set(found))
    assert slowest(costs, links, tuple(found)) == pytest.approx(best)


def test_a_cut_goes_where_it_is_possible_and_cheap() -> None:
    costs, endless = [1.0] * 6, float("inf")
    assert choose_cuts(costs, [0.1, endless, 5.0, 0.1, 0.1, 0.1], 2) == [3]
    with pytest.raises(ValueError, match="1 places for 2 cuts"):
        choose_cuts(costs, [0.1, *[endless] * 5], 3)


def test_cost_and_not_the_count_of_layers_decides() -> None:
    # 30 equal blocks and a head that weighs as much as eight of them
    costs = [1.0] * 29 + [9.0]
    assert choose_cuts(costs, [0.0] * 30, 2) == [18]
    assert balance([15.0, 23.0]) < balance([19.0, 19.0]) == 1.0


@given(st.integers(1, 64), st.integers(0, 64))
def test_microbatches_are_equal_pieces(batch: int, wanted: int) -> None:
    found = pieces(batch, wanted)
    assert batch % found == 0 and found <= max(1, wanted)


def test_bubble_and_communication_of_a_known_call() -> None:
    # rank 0 computes 0–4, the link takes 4–6, rank 1 computes 6–10
    ranks = [[Event(COMPUTE, 0, 0.0, 4.0), Event(LINK, 0, 4.0, 4.0, 100)], [Event(COMPUTE, 0, 6.0, 10.0)]]
    found = summarize(ranks)
    assert (found.seconds, found.balance, found.sent) == (10.0, 1.0, 100)
    assert found.bubble == pytest.approx(0.6) and found.communication == pytest.approx(0.2)


def test_a_collective_inside_a_computation_is_no_computing() -> None:
    ranks = [[Event(COMPUTE, 0, 0.0, 10.0), Event(LINK, 1, 4.0, 6.0, 8)], [Event(COMPUTE, 0, 0.0, 10.0), Event(LINK, 1, 3.0, 6.0, 8)]]
    found = summarize(ranks)
    assert found.communication == pytest.approx(0.2)
    assert found.balance == pytest.approx(7.5 / 8)
    drawn = as_attachment(ranks, ["a", "b"], found)
    assert drawn["events"][0][:4] == [0, COMPUTE, 0, 0.0] and drawn["left_out"] == 0
