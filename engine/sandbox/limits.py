"""What a child may use at most."""

from __future__ import annotations

from dataclasses import dataclass

from engine.host import this_host

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Limits:
    """A child beyond any of these is killed with everything below it.

    `file_bytes` bounds the largest file and also all that the child writes together;
    `processes` includes threads where the kernel counts them so.
    """

    memory_bytes: int
    cpu_seconds: int
    wall_seconds: float
    file_bytes: int
    processes: int = 1024

    @classmethod
    def of_host(cls, *, wall_seconds: float = 3600.0, memory_share: float = 0.8, file_bytes: int = 64 * GIB) -> Limits:
        """Sensible limits here: a share of memory, and CPU seconds for all cores all the time."""
        host = this_host()
        return cls(
            memory_bytes=int(host.memory_bytes * memory_share),
            cpu_seconds=int(wall_seconds * host.cores) + 1,
            wall_seconds=wall_seconds,
            file_bytes=file_bytes,
        )
