"""`python -m engine.child KIND DESCRIPTOR`: enters the sandbox, then imports and serves.

KIND is inspect, dataset, operators, transform, measure, compute, ceilings or fixed (transform and measure
perhaps with `+ranks`: several processes that talk over loopback, and `+device`: the host's accelerators); DESCRIPTOR is the channel to the worker.
The messages are those of engine.requests. Nothing that touches a model is imported
before the doors are shut.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.sandbox.channel import Channel
from engine.sandbox.enter import Profile, enter

if TYPE_CHECKING:
    from engine.domain.errors import Problem
    from engine.domain.experiment import Progress
    from engine.measure.ceilings import FixedNetwork
    from engine.pipeline import MeasureSession


def inspect(data: Any, report: Callable[[Progress], None]) -> Any:
    from engine.domain.codec import as_data, from_data
    from engine.intake.inspection import serve
    from engine.requests import InspectRequest

    return as_data(serve(from_data(InspectRequest, data), report))


def dataset(data: Any, report: Callable[[Progress], None]) -> Any:
    from engine.data.datasets import parse_dataset
    from engine.domain.codec import as_data, from_data
    from engine.requests import DatasetRequest, DatasetResult

    items = parse_dataset(Path(from_data(DatasetRequest, data).path))
    return as_data(DatasetResult(len(items), items.labelled))


def operators(data: Any, report: Callable[[Progress], None]) -> Any:
    from engine.domain.codec import as_data, from_data
    from engine.pipeline import operators as find
    from engine.requests import OperatorsRequest

    return as_data(find(from_data(OperatorsRequest, data), report))


def transform(data: Any, report: Callable[[Progress], None]) -> Any:
    from engine.domain.codec import as_data, from_data
    from engine.pipeline import transform as carry_out
    from engine.requests import TransformRequest

    return as_data(carry_out(from_data(TransformRequest, data), report))


def ceilings(data: Any, report: Callable[[Progress], None]) -> Any:
    from engine.domain.codec import as_data, from_data
    from engine.measure.ceilings import ceilings as measure
    from engine.requests import CeilingsRequest

    return as_data(measure(from_data(CeilingsRequest, data)))


def compute(data: Any, report: Callable[[Progress], None]) -> Any:
    from engine.domain.codec import as_data, from_data
    from engine.pipeline import compute as carry_out
    from engine.requests import ComputeRequest

    return as_data(carry_out(from_data(ComputeRequest, data)))


class Measure:
    """Opens on the first request, then takes turns, answers and is examined."""

    def __init__(self) -> None:
        self._session: MeasureSession | None = None

    def __call__(self, message: dict[str, Any]) -> Any:
        from engine.domain.codec import as_data, from_data
        from engine.pipeline import MeasureSession
        from engine.requests import OpenRequest

        if self._session is None:
            self._session = MeasureSession(from_data(OpenRequest, message["request"]))
            return as_data(self._session.opened)
        if "round" in message:
            return as_data(self._session.round(float(message["round"])))
        if "load" in message:
            return as_data(self._session.load())
        if "examine" in message:
            return as_data(self._session.examine())
        return as_data(self._session.answers(message["answers"]))


class Fixed:
    """The fixed network by which a host is calibrated: opened on the first request, then turns."""

    def __init__(self) -> None:
        self._network: FixedNetwork | None = None

    def __call__(self, message: dict[str, Any]) -> Any:
        from engine.domain.codec import as_data
        from engine.measure.ceilings import FixedNetwork

        if self._network is None:
            self._network = FixedNetwork(int(message["threads"]))
            return None
        return as_data(self._network.round(float(message["round"])))


def main(kind: str, descriptor: int) -> int:
    """Serve until the worker hangs up."""
    channel = Channel(descriptor)
    first = channel.receive()
    if first is None:
        return 0
    isolation = enter(Profile(**first["profile"]), descriptor)
    channel.send({"hello": list(isolation)})
    serve = _server(kind, channel)
    while (message := channel.receive()) is not None:
        channel.send(_answer(serve, message))
    return 0


def _server(kind: str, channel: Channel) -> Callable[[dict[str, Any]], Any]:
    kind = kind.partition("+")[0]
    if kind in ("measure", "fixed"):
        return Measure() if kind == "measure" else Fixed()
    once = {"inspect": inspect, "dataset": dataset, "operators": operators, "transform": transform, "compute": compute, "ceilings": ceilings}[kind]

    def report(progress: Progress) -> None:
        from engine.domain.codec import as_data

        channel.send({"progress": as_data(progress)})

    return lambda message: once(message["request"], report)


def _answer(serve: Callable[[dict[str, Any]], Any], message: dict[str, Any]) -> dict[str, Any]:
    from engine.domain.codec import as_data

    try:
        return {"result": serve(message)}
    except Exception as error:  # noqa: BLE001 a child's last words: everything becomes a Problem
        traceback.print_exc()
        return {"problem": as_data(_problem(error))}


def _problem(error: Exception) -> Problem:
    from engine.domain.errors import Problem, SpeedrailError

    if isinstance(error, SpeedrailError):
        return error.as_problem()
    trace = traceback.format_exc()
    if isinstance(error, MemoryError):
        return Problem("StageError", "There was not enough memory.", "Choose a smaller batch or model.", detail=trace)
    return Problem("StageError", f"{type(error).__name__}: {error}"[:1000], detail=trace)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
