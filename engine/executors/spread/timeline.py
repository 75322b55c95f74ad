"""What the events of one call say: who waited, for whom, and how long nobody computed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.executors.spread.cuts import balance
from engine.executors.spread.part import COMPUTE, LINK, Event

Interval = tuple[float, float]
MOST_EVENTS = 2000


@dataclass(frozen=True, slots=True)
class Summary:
    """Shares of one call's duration, from the first event to the last.

    bubble: of all ranks' time, in which a rank does not compute. communication: in which no rank
    computes, because data is on the link or being packed. balance: mean over the busiest rank.
    """

    seconds: float
    balance: float
    bubble: float
    communication: float
    sent: int


def summarize(ranks: Sequence[Sequence[Event]]) -> Summary:
    """Of one group's events, a list a rank."""
    computing = [_computing(events) for events in ranks]
    everything = [e for events in ranks for e in events]
    seconds = max(e.end for e in everything) - min(e.begin for e in everything)
    busy = [_length(intervals) for intervals in computing]
    somebody = _length(_union([i for intervals in computing for i in intervals]))
    return Summary(
        seconds,
        balance(busy),
        max(0.0, 1 - sum(busy) / (len(ranks) * seconds)),
        max(0.0, 1 - somebody / seconds),
        sum(e.sent for e in everything),
    )


def as_attachment(ranks: Sequence[Sequence[Event]], names: Sequence[str], summary: Summary) -> dict[str, Any]:
    """For drawing: milliseconds from the call's first event, the first `MOST_EVENTS` events."""
    start = min(e.begin for events in ranks for e in events)
    ordered = sorted(((rank, e) for rank, found in enumerate(ranks) for e in found), key=lambda each: each[1].begin)
    events = [
        [rank, e.kind, e.item, round((e.begin - start) * 1e3, 4), round((e.end - start) * 1e3, 4), e.sent]
        for rank, e in ordered
    ]
    return {
        "ranks": list(names), "events": events[:MOST_EVENTS], "left_out": max(0, len(events) - MOST_EVENTS),
        "communication": summary.communication, "bubble": summary.bubble,
    }  # fmt: skip


def _computing(events: Sequence[Event]) -> list[Interval]:
    """When a rank computes: its computations, less the collectives inside them."""
    links = _union([(e.begin, e.end) for e in events if e.kind == LINK])
    found: list[Interval] = []
    for event in events:
        if event.kind != COMPUTE:
            continue
        at = event.begin
        for begin, end in links:
            if end <= at or begin >= event.end:
                continue
            found += [(at, begin)] if begin > at else []
            at = max(at, end)
        found += [(at, event.end)] if event.end > at else []
    return found


def _union(intervals: Sequence[Interval]) -> list[Interval]:
    joined: list[Interval] = []
    for begin, end in sorted(intervals):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _length(intervals: Sequence[Interval]) -> float:
    return sum(end - begin for begin, end in intervals)
