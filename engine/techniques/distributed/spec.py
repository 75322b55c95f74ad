"""Distributed parallel inference: many replicas serve one stream. What it offers and where it cannot go."""

from __future__ import annotations

from dataclasses import dataclass

from engine.domain.knobs import Config, knob
from engine.domain.recipe import TechniqueId
from engine.domain.technique import After, Family, Obstacle, Phase, Situation, TechniqueSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedConfig(Config):
    """Settings of distributed parallel inference."""

    replicas: int = knob(2, low=2, high=64, help="Copies of the model, each in a process of its own", grid=(2, 4), spelled=True)
    max_batch: int = knob(0, low=0, high=1024, help="Most requests gathered into one call; 0 takes a replica's share of the batch")
    max_wait_ms: float = knob(2.0, low=0.0, high=1000.0, unit="ms", help="A request waits so long for others to join its call")
    queue: int = knob(64, low=1, high=100_000, help="Requests that may wait; one more is turned away")
    hosts: int = knob(1, low=1, high=64, help="Hosts over which the replicas are placed")
    timeout: float = knob(60.0, low=1.0, high=3600.0, unit="s", help="Without an answer from a replica the run ends after so long")

    @property
    def workers(self) -> int:
        return self.replicas


def obstacles(config: DistributedConfig, situation: Situation) -> list[Obstacle]:
    """Cores and hosts are looked at for the whole recipe: see engine.plan."""
    return []


SPEC = TechniqueSpec(
    id=TechniqueId("distributed"),
    title="Distributed parallel inference",
    family=Family.DISTRIBUTED,
    phase=Phase.SPREAD,
    summary="Runs several replicas of the model side by side; a batch, or a stream of requests, is shared out among them.",
    config=DistributedConfig,
    implementation="engine.techniques.distributed.apply:Distributed",
    rules=(After(TechniqueId("model_parallelism"), "A replica is a whole model, cut or not, so the cut comes first."),),
    obstacles=obstacles,
)
