"""What disturbed a series while it was measured: seen, kept with each run, used in the verdict."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from engine.domain.metrics import Ratio, Verdict

NOISE = "noise"
"""The kind of attachment that a SeriesNoise is."""
NOISY = "Noisy"
"""How the remark of a run begins whose series was noisy."""
MOST_DRIFT = 0.05
"""Of the canary's pace, or of the clock's frequency, within a round."""
MOST_OTHER_LOAD = 0.25
"""Cores that other processes kept busy during a round."""
MOST_STEAL = 0.02
"""Share of the cores' time that the hypervisor gave to others."""
MOST_DISTURBED = 0.2
"""Share of a series' rounds; beyond it the series is noisy."""


@dataclass(frozen=True, slots=True)
class RoundNoise:
    """One round, as seen from outside the timed processes.

    canary_ms: before and after. other_load: in cores. steal: share of all cores' time.
    mhz: mean clock at the end, None where the host does not tell. threads: of all timed
    processes together, at the end. repeated: a first try was void.
    """

    index: int
    canary_ms: tuple[float, float]
    other_load: float
    steal: float
    mhz: float | None
    threads: int
    repeated: bool = False

    @property
    def drift(self) -> float:
        """Relative change of the canary's pace."""
        return max(self.canary_ms) / min(self.canary_ms) - 1


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """The baseline against a second process of itself: what no difference looks like here."""

    ratio: Ratio
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class SeriesNoise:
    """A series' rounds and what they say of it.

    block: the first one's index; blocks: how many, each of fresh processes. pinned: the cores the timed processes
    were held to; empty when the scheduler chose. partner: what second processes of the baseline differed
    from the first ones, which is the verdicts' noise reference; None where there was no
    memory for any. check: third ones judged as if they were a candidate (`--verify-aa`).
    """

    block: int
    cores: int
    threads: int
    rounds: tuple[RoundNoise, ...]
    pinned: tuple[int, ...] = ()
    band: float = 0.0
    partner: Ratio | None = None
    check: SelfCheck | None = None
    blocks: int = 1

    def disturbances(self, round_: RoundNoise) -> tuple[str, ...]:
        """Which of `drift`, `other load`, `steal`, `frequency`, `threads` disturbed a round."""
        usual_mhz, usual_threads = self._usual()
        found = {
            "drift": round_.drift > MOST_DRIFT,
            "other load": round_.other_load > MOST_OTHER_LOAD,
            "steal": round_.steal > MOST_STEAL,
            "frequency": bool(round_.mhz and usual_mhz and abs(round_.mhz / usual_mhz - 1) > MOST_DRIFT),
            "threads": round_.threads != usual_threads,
        }
        return tuple(name for name, disturbs in found.items() if disturbs)

    @property
    def counts(self) -> Counter[str]:
        """Rounds by what disturbed them."""
        return Counter(name for each in self.rounds for name in self.disturbances(each))

    @property
    def disturbed(self) -> int:
        """Rounds that anything disturbed."""
        return sum(1 for each in self.rounds if self.disturbances(each))

    @property
    def is_noisy(self) -> bool:
        return self.disturbed > MOST_DISTURBED * len(self.rounds)

    def _usual(self) -> tuple[float, int]:
        """Median clock (0: unknown) and the most common number of threads."""
        clocks = sorted(each.mhz for each in self.rounds if each.mhz)
        threads = Counter(each.threads for each in self.rounds).most_common(1)
        return (clocks[len(clocks) // 2] if clocks else 0.0), (threads[0][0] if threads else 0)
