"""What is asked of the model while it is timed, and what an experiment must reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from engine.domain.errors import InvalidInput
from engine.domain.knobs import Config, knob
from engine.domain.load import Pattern


class Percentile(StrEnum):
    """Of a latency under load."""

    P50 = "50"
    P90 = "90"
    P95 = "95"
    P99 = "99"


class KvCache(StrEnum):
    """How a causal LM keeps keys and values of earlier positions."""

    AUTO = "auto"
    """As the runtime is fastest: growing in eager and openvino, fixed in inductor and onnxruntime."""
    DYNAMIC = "dynamic"
    """Grows with every token."""
    STATIC = "static"
    """Buffers for prompt and new tokens, allocated once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload(Config):
    """One workload for all runs of an experiment.

    Sizes that a task has no use for are ignored by it (`sequence_length` by images).
    """

    batch_size: int = knob(1, low=1, high=1024, help="Items in one call", grid=(1, 8, 32))
    sequence_length: int = knob(128, low=1, high=131072, unit="tokens", help="Tokens in an input; the prompt of a causal LM")
    new_tokens: int = knob(32, low=1, high=4096, unit="tokens", help="Tokens a causal LM generates in one call")
    image_size: int = knob(0, low=0, high=4096, unit="px", help="Side of an image; 0 takes the model's own")
    pattern: Pattern = knob(
        Pattern.SINGLE_STREAM, help="How queries arrive, beside the rounds that give the verdict: as in MLPerf's scenarios"
    )
    streams: int = knob(8, low=1, high=1024, help="Items in one query", shown_when={"pattern": ("multi_stream",)})
    rate: float = knob(
        0.0, low=0.0, high=1e6, unit="queries/s", help="Poisson arrivals; 0 searches the highest rate within the bound",
        shown_when={"pattern": ("server",)},
    )  # fmt: skip
    latency_bound: float = knob(
        100.0, low=0.01, high=1e6, unit="ms", help="What the latency under load must stay within", shown_when={"pattern": ("server",)}
    )
    percentile: Percentile = knob(
        Percentile.P90, help="Of the latency under load; the 99th needs ten times the queries of the 90th",
        shown_when={"pattern": ("multi_stream", "server")},
    )  # fmt: skip
    kv_cache: KvCache = knob(KvCache.AUTO, help="How a causal LM keeps its past; runtimes that know one way only keep it and say so")
    threads: int = knob(0, low=0, high=1024, help="Threads of the runtime; 0 takes all cores of the host")
    rounds: int = knob(10, low=3, high=1000, help="Interleaved rounds in all")
    processes: int = knob(
        0, low=0, high=1000, help="Fresh processes of each run that share the rounds, since equal processes differ; 0 chooses by what opening costs"
    )
    round_seconds: float = knob(1.0, low=0.05, high=60.0, unit="s", help="Least time a run is timed in one round")
    warmup_calls: int = knob(10, low=1, high=1000, help="Calls before the first timed one, fewer where they take more than 5 s; kept, not counted")

    @classmethod
    def parse_words(cls, text: str) -> Self:
        """From `batch_size=1,sequence_length=128`. Raises InvalidInput."""
        words: dict[str, str] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, equals, value = part.partition("=")
            if not equals:
                raise InvalidInput(f"{part!r} is not name=value.", mend="Write for example batch_size=1,sequence_length=128.")
            words[name.strip()] = value
        return cls.parse(words)


class TargetMetric(StrEnum):
    LATENCY = "latency"
    THROUGHPUT = "throughput"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class Target:
    """What the user needs: `latency ≤ 15 ms`, `throughput ≥ 100 items/s`, `size ≤ 50 MB`.

    Units are those of the metric (engine.domain.metrics): ms, items/s, bytes.
    """

    metric: TargetMetric
    bound: float

    def met_by(self, headline: Mapping[str, float | None]) -> bool:
        """Whether a run with these headline medians (metric name to value) meets it."""
        value = headline.get(self.metric)
        if value is None:
            return False
        return value >= self.bound if self.metric is TargetMetric.THROUGHPUT else value <= self.bound


@dataclass(frozen=True, slots=True)
class DatasetRef:
    """A dataset in the content-addressed store.

    Formats: `.txt` (a text a line), CSV/JSONL (`text` and optional `label` columns,
    or `text_a,text_b,score`), NPZ (arrays named as the model's inputs, or `images`,
    and optional `labels`).
    """

    id: str
    name: str
    items: int
    labelled: bool
