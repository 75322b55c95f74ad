"""The catalogue of links between devices, host and hosts (data/links.toml)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from engine.hardware.entries import SourceStatus, pick, tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """`bandwidth`: the line rate in one direction, bytes/s. `latency`: of an empty message, s."""

    id: str
    name: str
    kind: str
    """host (device to its host), device (to its peers) or network (host to host)."""
    bandwidth: float
    latency: float
    source: str
    status: SourceStatus
    transport: str = ""
    """tcp: messages pass through the hosts' network stacks; empty: devices move them themselves."""

    def seconds(self, size: float) -> float:
        """How long a message of `size` bytes takes."""
        return self.latency + size / self.bandwidth


@cache
def links() -> tuple[Link, ...]:
    return tuple(
        Link(
            id=t["id"], name=t["name"], kind=t["kind"], bandwidth=t["bandwidth_gb_s"] * 1e9,
            latency=t["latency_us"] * 1e-6, source=t["source"], status=SourceStatus(t["status"]),
            transport=t.get("transport", ""),
        )
        for t in tables("links.toml", "link")
    )  # fmt: skip


def link_of(id: str) -> Link:
    """Raises NotFound."""
    return pick(links(), id, "link")
