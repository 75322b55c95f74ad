"""Children that are played, for blocks and series of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.deployment import Lowered
from engine.domain.errors import ChildError, StageError
from engine.domain.experiment import StageFacts
from engine.domain.layout import Workers
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.measure.block import SLICE_SECONDS, Candidate
from engine.requests import OpenRequest
from engine.sandbox import Child, Limits

LIMITS = Limits(2**30, 60, 60.0, 2**20)
CARD = ModelCard(ArtifactFormat.ONNX, TaskId.TENSORS, "mlp", 1000, "float32", ())
WORKLOAD = Workload(batch_size=4, round_seconds=SLICE_SECONDS)
"""A turn a round."""
LM = ModelCard(ArtifactFormat.GGUF, TaskId.CAUSAL_LM, "llama", 1000, "Q4_1", ())


@dataclass
class Played:
    """A child as the block sees it. `fails_at` names the message at which it reports a problem."""

    name: str
    heard: list[tuple[str, str]]
    fails_at: str = ""
    memory: int = 100
    level: str = "full"
    killed: bool = False
    pid: int = 2**30
    further: tuple[int, ...] = ()
    warmup: float = 10.0

    def ask(self, message: dict[str, Any], *, timeout: float, tick: Callable[[], None]) -> Any:
        tick()
        kind = next(iter(message))
        self.heard.append((kind, self.name))
        if kind == self.fails_at:
            raise StageError("Out of luck.")
        return {
            "request": {"open_seconds": 1.0, "first_call": 30.0, "warmup": [self.warmup] * 3},
            "round": {"samples": {"latency": [10.0, 11.0]}, "calls": 3},
            "answers": {"answers_file": f"{self.name}.npz", "quality": []},
            "examine": {"counters": {"threads": 1, "busy_cores": 1.0, "involuntary_switches": 0.0}},
        }[kind]

    def peak_pss_bytes(self) -> int:
        return self.memory

    def kill(self) -> None:
        self.killed = True


@dataclass
class Stage:
    """Starts the children that are played."""

    fails_at: dict[str, str] = field(default_factory=dict)
    memory: int = 100
    warmup: float = 10.0
    heard: list[tuple[str, str]] = field(default_factory=list)
    children: dict[str, Played] = field(default_factory=dict)
    readable: dict[str, list[Path]] = field(default_factory=dict)

    def __call__(
        self, kind: str, *, readable: list[Path], writable: list[Path], limits: Limits, log: Path, threads: int,
        workers: Workers, opened: Sequence[Path],
    ) -> Child:  # fmt: skip
        name = log.stem
        assert workers == Workers(1) and list(map(str, opened)) == ["/artifact", "/lowered"]
        if self.fails_at.get(name) == "start":
            raise ChildError("It did not start.")
        self.readable[name] = readable
        child = self.children[name] = Played(
            name, self.heard, self.fails_at.get(name, ""), self.memory, warmup=self.warmup
        )
        return child  # type: ignore[return-value]

    def turns(self) -> list[str]:
        return [name for kind, name in self.heard if kind == "round"]


def candidates(names: Iterable[str], card: ModelCard = CARD, workload: Workload = WORKLOAD) -> list[Candidate]:
    lowered = Lowered(RuntimeId.EAGER, "/lowered", (), 1, {}, StageFacts("eager", 0.0, {}))
    return [
        Candidate(
            name, OpenRequest(lowered, "/artifact", card, workload, "", 1, f"/scratch/{name}"),
            (Path("/artifact"),), Path(f"/logs/{name}.log"),
        )
        for name in names
    ]  # fmt: skip
