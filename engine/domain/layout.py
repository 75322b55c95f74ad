"""Over how many workers a deployment is spread, and how: what the SPREAD techniques set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import ceil


class Cut(StrEnum):
    """How one model is divided over several ranks."""

    NONE = "none"
    PIPELINE = "pipeline"
    """Layer after layer: each rank has a stretch of the model and hands its result on."""
    TENSOR = "tensor"
    """Inside each layer: every rank has a slice of the matrices and they add up their parts."""


@dataclass(frozen=True, slots=True)
class Workers:
    """So many workers on so many hosts, `each` at most on one."""

    count: int
    hosts: int = 1

    @property
    def each(self) -> int:
        return ceil(self.count / self.hosts)

    def ranks(self, host: int) -> range:
        """Of one host, which are neighbours, so that the cut within a replica crosses hosts as seldom as can be."""
        return range(self.count)[host * self.each :][: self.each]

    @property
    def leave_a_host_empty(self) -> bool:
        return not self.ranks(self.hosts - 1)

    def cover(self, other: Workers) -> bool:
        """Whether the others find room where these are placed."""
        return self.hosts >= other.hosts and self.each >= other.each


def largest(of: Iterable[Workers]) -> Workers:
    """The fewest that cover each of them."""
    found = [Workers(1), *of]
    hosts = max(workers.hosts for workers in found)
    return Workers(hosts * max(workers.each for workers in found), hosts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """`replicas` copies of a model that is cut over `degree` ranks each, on `hosts` hosts.

    The default is one process. JSON, like all of a deployment.
    """

    cut: Cut = Cut.NONE
    degree: int = 1
    microbatches: int = 0
    """Pieces of a batch that travel through a pipeline at once; 0: as many as the degree."""
    split_attention: bool = True
    """Tensor parallel: attention is split by heads, not the MLPs alone."""
    replicas: int = 1
    max_batch: int = 0
    """Most items that are gathered into one call of a replica; 0: what the replica was made for."""
    max_wait_ms: float = 2.0
    queue: int = 64
    """Requests that may wait; one more is turned away."""
    hosts: int = 1
    timeout: float = 60.0
    """Seconds without an answer from a worker after which the run ends."""

    @property
    def workers(self) -> int:
        """Processes that hold the model or a part of it."""
        return self.degree * self.replicas

    @property
    def placed(self) -> Workers:
        return Workers(self.workers, self.hosts)

    @property
    def is_spread(self) -> bool:
        return self.workers > 1
