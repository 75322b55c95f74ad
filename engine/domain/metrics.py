"""Metric definitions and observed measurements. A number is never naked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Provenance(StrEnum):
    MEASURED = "measured"
    SIMULATED = "simulated"
    PROJECTED = "projected"


class Direction(StrEnum):
    LOWER = "lower"
    HIGHER = "higher"


@dataclass(frozen=True, slots=True)
class Metric:
    """Definition of a metric. `name` is what tables, JSON and columns call it."""

    name: str
    title: str
    unit: str
    better: Direction
    help: str = ""


LATENCY = Metric("latency", "Latency", "ms", Direction.LOWER, "Median of one call; a causal LM's whole generation")
LATENCY_P90 = Metric("latency_p90", "Latency p90", "ms", Direction.LOWER, "Needs 64 samples")
FIRST_CALL = Metric("first_call_latency", "First call", "ms", Direction.LOWER, "The very first call after opening")
THROUGHPUT = Metric("throughput", "Throughput", "items/s", Direction.HIGHER, "Items (a causal LM: new tokens) per second")
TIME_TO_FIRST_TOKEN = Metric("time_to_first_token", "Time to first token", "ms", Direction.LOWER)
TIME_PER_OUTPUT_TOKEN = Metric("time_per_output_token", "Time per output token", "ms", Direction.LOWER)
PEAK_MEMORY = Metric("peak_memory", "Peak memory", "bytes", Direction.LOWER, "Peak PSS of the run's process tree")
ENERGY = Metric("energy", "Energy", "J/item", Direction.LOWER, "Joules of one item, from a meter or projected")
SIZE = Metric("size", "Size on disk", "bytes", Direction.LOWER, "Files the runtime needs to load the model")
QUALITY = Metric(
    "quality", "Quality retained", "ratio", Direction.HIGHER,
    "The task's headline quality relative to the baseline, whose value is 1",
)
COSINE = Metric("cosine", "Cosine to baseline", "ratio", Direction.HIGHER, "Mean cosine of embeddings")
PERPLEXITY = Metric("perplexity", "Perplexity", "ppl", Direction.LOWER)
TOKEN_AGREEMENT = Metric("token_agreement", "Next-token agreement", "ratio", Direction.HIGHER, "Share of equal greedy next tokens")
AGREEMENT = Metric("agreement", "Agreement", "ratio", Direction.HIGHER, "Share of equal predicted classes")
ACCURACY = Metric("accuracy", "Accuracy", "ratio", Direction.HIGHER)
MAX_DEVIATION = Metric("max_deviation", "Max deviation", "abs", Direction.LOWER, "Largest absolute difference to the baseline")
MEAN_DEVIATION = Metric(
    "mean_deviation", "Mean relative deviation", "ratio", Direction.LOWER,
    "Mean absolute difference to the baseline, relative to the mean size of its outputs",
)
SPEARMAN = Metric("spearman", "Spearman", "ratio", Direction.HIGHER, "Rank correlation with labelled similarity")

METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        LATENCY, LATENCY_P90, FIRST_CALL, THROUGHPUT, TIME_TO_FIRST_TOKEN, TIME_PER_OUTPUT_TOKEN, PEAK_MEMORY, ENERGY, SIZE,
        QUALITY, COSINE, PERPLEXITY, TOKEN_AGREEMENT, AGREEMENT, ACCURACY, MAX_DEVIATION, MEAN_DEVIATION,
        SPEARMAN,
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was observed of one metric in one run.

    `samples` is how many observations the median rests on; the raw values live
    beside it in storage. `ci95` is None where an interval makes no sense (a size).
    """

    name: str
    unit: str
    median: float
    ci95: tuple[float, float] | None
    samples: int
    provenance: Provenance = Provenance.MEASURED


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio with its 95 % interval: a speedup (baseline ÷ run), say."""

    median: float
    ci95: tuple[float, float]


class Verdict(StrEnum):
    FASTER = "faster"
    SLOWER = "slower"
    NOT_DISTINGUISHABLE = "not distinguishable"
