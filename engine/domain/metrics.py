"""Metric definitions and observed measurements. A number is never naked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Provenance(StrEnum):
    MEASURED = "measured"
    SIMULATED = "simulated"
    PROJECTED = "projected"

    @property
    def interval(self) -> str:
        """What the bounds beside such a number are: of samples, or of the errors that a model made elsewhere."""
        return "95 % interval" if self is Provenance.MEASURED else "error band"


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

    @property
    def travels(self) -> bool:
        """Whether it says the same on every machine, as qualities and sizes do and times do not."""
        return self.unit in ("ratio", "ppl", "abs") or self.name == "size"


LATENCY = Metric("latency", "Latency", "ms", Direction.LOWER, "Median of one call; a causal LM's whole generation")
LATENCY_P90 = Metric("latency_p90", "Latency p90", "ms", Direction.LOWER, "Needs 64 samples")
LATENCY_P95 = Metric("latency_p95", "Latency p95", "ms", Direction.LOWER, "Needs 130 samples")
LATENCY_P99 = Metric("latency_p99", "Latency p99", "ms", Direction.LOWER, "Needs 662 samples")
FIRST_CALL = Metric("first_call_latency", "First call", "ms", Direction.LOWER, "The very first call after opening")
THROUGHPUT = Metric("throughput", "Throughput", "items/s", Direction.HIGHER, "Items (a causal LM: new tokens) per second")
TIME_TO_FIRST_TOKEN = Metric("time_to_first_token", "Time to first token", "ms", Direction.LOWER)
TIME_PER_OUTPUT_TOKEN = Metric("time_per_output_token", "Time per output token", "ms", Direction.LOWER)
PEAK_MEMORY = Metric("peak_memory", "Peak memory", "bytes", Direction.LOWER, "Peak PSS of the run's process tree")
WEIGHTS_MEMORY = Metric(
    "weights_memory", "Weights in memory", "bytes", Direction.LOWER,
    "A torch model's tensors; of other runtimes what resident memory grew by while the model was opened",
)
ACTIVATIONS_MEMORY = Metric(
    "activations_memory", "Activations", "bytes", Direction.LOWER,
    "What a call needs beyond the weights: torch's allocator peak; of other runtimes what resident memory grew by in the first calls",
)
DEVICE_LATENCY = Metric(
    "device_latency", "Latency on the device", "ms", Direction.LOWER,
    "Median of what an accelerator was busy with one call, by its own events; the rest of the latency is copying and launching",
)
DEVICE_MEMORY = Metric(
    "device_memory", "Memory on the device", "bytes", Direction.LOWER, "The most that an accelerator's allocator handed out at one time"
)
ENERGY = Metric("energy", "Energy", "J/item", Direction.LOWER, "Joules of one item, from a meter (RAPL: the whole package; NVML: the whole board, added where a run of the block is on it) or projected")
PREFILL_SHARE = Metric(
    "prefill_share", "Prefill, of peak", "share", Direction.HIGHER,
    "Operations from prompt to first token, as a share of the peak that python -m engine calibrate measured on this host",
)
DECODE_SHARE = Metric(
    "decode_share", "Decode, of bandwidth", "share", Direction.HIGHER,
    "Bytes read for each further token, as a share of the bandwidth that python -m engine calibrate measured on this host",
)
HIGHEST_RATE = Metric(
    "highest_rate", "Highest rate", "queries/s", Direction.HIGHER, "Poisson arrivals whose latency stays within the bound"
)
LOAD_LATENCY = Metric("load_latency", "Latency under load", "ms", Direction.LOWER, "At the percentile that the workload names")
OFFLINE_THROUGHPUT = Metric("offline_throughput", "Offline throughput", "items/s", Direction.HIGHER, "The best of the batch sweep")
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
F1 = Metric("f1", "F1, macro", "ratio", Direction.HIGHER, "Mean over classes of the harmonic mean of precision and recall")
PROBABILITY_OVERLAP = Metric(
    "probability_overlap", "Probability overlap", "ratio", Direction.HIGHER,
    "Mean share of the predicted probabilities that is the same as the baseline's (1 minus the total variation distance)",
)
REGRESSION_ERROR = Metric("regression_error", "Mean absolute error", "abs", Direction.LOWER, "Of predicted values against the labels")
MAX_DEVIATION = Metric("max_deviation", "Max deviation", "abs", Direction.LOWER, "Largest absolute difference to the baseline")
MEAN_DEVIATION = Metric(
    "mean_deviation", "Mean relative deviation", "ratio", Direction.LOWER,
    "Mean absolute difference to the baseline, relative to the mean size of its outputs",
)
SPEARMAN = Metric("spearman", "Spearman", "ratio", Direction.HIGHER, "Rank correlation with labelled similarity")

METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        LATENCY, LATENCY_P90, LATENCY_P95, LATENCY_P99, FIRST_CALL, DEVICE_LATENCY, THROUGHPUT, TIME_TO_FIRST_TOKEN, TIME_PER_OUTPUT_TOKEN, PREFILL_SHARE,
        DECODE_SHARE, HIGHEST_RATE, LOAD_LATENCY, OFFLINE_THROUGHPUT, PEAK_MEMORY, WEIGHTS_MEMORY, ACTIVATIONS_MEMORY, DEVICE_MEMORY, ENERGY, SIZE,
        QUALITY, COSINE, PERPLEXITY, TOKEN_AGREEMENT, AGREEMENT, PROBABILITY_OVERLAP, ACCURACY, F1, REGRESSION_ERROR,
        MAX_DEVIATION, MEAN_DEVIATION, SPEARMAN,
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was observed of one metric in one run.

    `samples` is how many observations the median rests on; the raw values live
    beside it in storage, 0 where it was computed. `ci95` is None where an interval makes
    no sense (a size); of what was not measured it is the error band.
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
