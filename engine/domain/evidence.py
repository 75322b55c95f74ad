"""What is learned of an opened model beside its timings: why it is as fast as it is."""

from __future__ import annotations

from dataclasses import dataclass

from engine.domain.operators import OperatorProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What a child's process and its compiler counted while it was timed."""

    threads: int
    """Threads that the runtime was told to use."""
    busy_cores: float
    """CPU seconds of all its threads per second of its turns."""
    involuntary_switches: float
    """Times a second that the kernel took a core from a thread that wanted to go on."""
    compiled_before: int = 0
    """Graphs that torch.compile made until the model was warm."""
    compiled_while_timed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextPoint:
    """A causal LM at one length of context (prompt and new tokens)."""

    context: int
    memory_bytes: int
    """The most that its process had resident during a generation of that length."""
    first_token_ms: float
    token_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What is looked at when nothing more is timed.

    `operators` None: nobody counts them on this runtime. `weights_bytes`: what the opened
    model holds; `activations_bytes`: what a call needs beyond that; 0 where it is not known.
    `kv_cache`: static or dynamic, of a causal LM; empty for others.
    """

    counters: Counters
    operators: OperatorProfile | None = None
    weights_bytes: int = 0
    activations_bytes: int = 0
    kv_cache: str = ""
    context: tuple[ContextPoint, ...] = ()
    device_bytes: int = 0
    """The most that an accelerator's allocator handed out at one time."""
