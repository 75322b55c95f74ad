"""NVIDIA boards as their driver shows them (worker side): joules, held-back clocks, whoever else uses them.

Everything comes from NVML through `pynvml` (the package nvidia-ml-py); without it there is no number. The worker
reads it from outside the sandbox, where process ids are the host's own. Written, unmeasured: no machine with a board
has run it yet; tests play NVML.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

_POLICIES = {0: "its power limit", 1: "heat"}
"""NVML's performance policies whose violations are counted in nanoseconds."""
_REASONS = {
    0x04: "its power limit", 0x08: "the hardware (power or heat)", 0x20: "heat", 0x40: "heat", 0x80: "the power supply",
}  # fmt: skip
"""NVML's clock event reasons that slow a busy board down; being idle and clocks that were asked for do not count."""
_NOTICEABLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Board:
    """One board. `library` is pynvml, or what a test plays for it."""

    library: Any
    handle: Any
    name: str

    def joules(self) -> float:
        """Since the driver was loaded. Raises the library's NVMLError where the board has no counter."""
        return float(self.library.nvmlDeviceGetTotalEnergyConsumption(self.handle)) / 1e3

    def held_back_seconds(self) -> dict[str, float]:
        """How long its clocks were held back so far, by cause; empty where the driver does not count."""
        found = {}
        for policy, words in _POLICIES.items():
            try:
                found[words] = self.library.nvmlDeviceGetViolationStatus(self.handle, policy).violationTime / 1e9
            except self.library.NVMLError:
                continue
        return found

    def held_back_now(self) -> frozenset[str]:
        """What holds its clocks back at this moment."""
        try:
            reasons = int(self.library.nvmlDeviceGetCurrentClocksThrottleReasons(self.handle))
        except self.library.NVMLError:
            return frozenset()
        return frozenset(words for bit, words in _REASONS.items() if reasons & bit)

    def users(self) -> dict[int, int]:
        """Processes that compute on it, as the host numbers them, and the bytes each holds (0: not told)."""
        try:
            running = self.library.nvmlDeviceGetComputeRunningProcesses(self.handle)
        except self.library.NVMLError:
            return {}
        return {process.pid: process.usedGpuMemory or 0 for process in running}


def boards(library: Any = None) -> tuple[Board, ...]:
    """The boards of this host; none without a driver or its library."""
    try:
        library = library or import_module("pynvml")
    except ImportError:
        return ()
    try:
        library.nvmlInit()
        handles = [library.nvmlDeviceGetHandleByIndex(i) for i in range(library.nvmlDeviceGetCount())]
        return tuple(Board(library, handle, _text(library.nvmlDeviceGetName(handle))) for handle in handles)
    except library.NVMLError:
        return ()


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


@dataclass(frozen=True, slots=True)
class BoardMeter:
    """The joules of some boards together (see engine.measure.energy.Meter).

    The driver renews its counter every 20 to 100 ms, so single turns are blurred into their
    neighbours; a run's energy is that of many turns.
    """

    boards: Sequence[Board]

    def read(self) -> float:
        return sum(board.joules() for board in self.boards)


def board_meter(found: Sequence[Board]) -> BoardMeter | None:
    """None where a board has no counter (before Volta) or there is no board."""
    try:
        for board in found:
            board.joules()
    except Exception as error:
        if not isinstance(error, found[0].library.NVMLError):
            raise
        return None
    return BoardMeter(found) if found else None


@dataclass(slots=True)
class BoardWatch:
    """Looks at the boards between rounds, and says afterwards what a reader should know."""

    boards: Sequence[Board]
    _rounds: int = 0
    _slow: dict[str, int] = field(default_factory=dict)
    _foreign: dict[int, int] = field(default_factory=dict)
    _first: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._first = [board.held_back_seconds() for board in self.boards]

    def look(self, own: Iterable[int]) -> None:
        """After a round. own: ids of the processes that are being measured."""
        self._rounds += 1
        ours = frozenset(own)
        for words in {words for board in self.boards for words in board.held_back_now()}:
            self._slow[words] = self._slow.get(words, 0) + 1
        for board in self.boards:
            for pid, size in board.users().items():
                if pid not in ours:
                    self._foreign[pid] = max(size, self._foreign.get(pid, 0))

    def remarks(self) -> tuple[str, ...]:
        return (*self._about_clocks(), *self._about_others())

    def _about_clocks(self) -> list[str]:
        seconds: dict[str, float] = {}
        for board, before in zip(self.boards, self._first, strict=True):
            for words, so_far in board.held_back_seconds().items():
                seconds[words] = seconds.get(words, 0.0) + so_far - before.get(words, so_far)
        counted = [f"for {value:.1f} s by {words}" for words, value in seconds.items() if value >= _NOTICEABLE_SECONDS]
        seen = [f"after {count} of {self._rounds} rounds by {words}" for words, count in self._slow.items() if words not in seconds]
        told = counted + seen
        return [f"The GPU's clocks were held back {', '.join(told)}: cooled better or less limited it would be faster."] if told else []

    def _about_others(self) -> list[str]:
        if not self._foreign:
            return []
        named = ", ".join(f"{pid} ({size / 1e9:.1f} GB)" if size else str(pid) for pid, size in sorted(self._foreign.items()))
        return [f"Other processes used the GPU while this was measured ({named}): repeat it when they are gone."]
