"""What the worker asks of its children and what they answer: frozen, torch-free, JSON by domain.codec.

On the wire every message is one JSON object on one line (see engine.child):

    to the child     {"request": …}                the request of its kind, first of all
                     {"round": seconds}            measure: one turn
                     {"answers": reference | null} measure: answer the scored items, score against a file
                     {"load": true}                measure: the load of the workload's pattern
                     {"examine": true}             measure: counters and the operators' times (engine.domain.evidence)
                     {"threads": count}            fixed: open the fixed network; then rounds as above
    to the worker    {"progress": Progress}        any number, before the result
                     {"result": …}                 or {"problem": Problem}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from engine.domain.artifact import ModelCard, NamedModel
from engine.domain.calibration import Bandwidth, Peak, Precision
from engine.domain.deployment import Lowered
from engine.domain.experiment import Attachment, StageFacts
from engine.domain.host import HostFacts
from engine.domain.metrics import Measurement
from engine.domain.workload import Workload


@dataclass(frozen=True, slots=True)
class InspectRequest:
    """Unpack the upload `source`, keep the model's files in the empty directory `into`, inspect those.

    An empty `source`: `into` already holds the files. Links in a folder may end below
    `roots` too. At most `max_bytes` are unpacked.
    """

    source: str
    into: str
    roots: tuple[str, ...] = ()
    max_bytes: int = 64 * 2**30


@dataclass(frozen=True, slots=True)
class InspectResult:
    card: ModelCard


@dataclass(frozen=True, slots=True)
class DatasetRequest:
    """Parse the dataset file at `path`."""

    path: str


@dataclass(frozen=True, slots=True)
class DatasetResult:
    items: int
    labelled: bool


@dataclass(frozen=True, slots=True)
class OperatorsRequest:
    """Find the operators of the model in `artifact_dir`; answered by engine.hardware.operators.Network.

    `rewrites`: a recipe that changes the model's shapes first, in the directory `scratch_dir`.
    """

    artifact_dir: str
    card: ModelCard
    workload: Workload
    rewrites: str = ""
    scratch_dir: str = ""
    host: HostFacts | None = None
    threads: int = 1


@dataclass(frozen=True, slots=True)
class TransformRequest:
    """Everything a child needs to plan a recipe again and carry it out.

    `recipe` is the canonical text. Files that are empty: the built-in probes. The dataset
    is here because a dataset alone is split into scored and calibration parts. The
    lowered files and each stage's own go under `output_dir`, which exists. What a stage
    leaves in `checkpoint_dir` is there again when a killed transform is repeated; empty: nothing is.
    `figures_dir`: what the home's tools found that a stage computes from; empty: nothing.
    `models`: other uploaded models, by the ids that the recipe names them by.
    """

    artifact_dir: str
    card: ModelCard
    recipe: str
    workload: Workload
    calibration_file: str
    output_dir: str
    host: HostFacts
    threads: int
    dataset_file: str = ""
    checkpoint_dir: str = ""
    figures_dir: str = ""
    models: dict[str, NamedModel] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TransformResult:
    """`facts`: one entry a stage, the runtime's lowering last. Paths lie in `output_dir`."""

    facts: tuple[StageFacts, ...]
    lowered: Lowered


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """Everything a child needs to open a lowered model, time it and answer the scored items.

    Files that are empty: the built-in probes; the calibration file decides what of the
    dataset is scored. Answers go to `scratch_dir`, which exists. `pinned`: the cores to
    stay on; empty leaves that to the scheduler.
    """

    lowered: Lowered
    artifact_dir: str
    card: ModelCard
    workload: Workload
    dataset_file: str
    threads: int
    scratch_dir: str = ""
    calibration_file: str = ""
    pinned: tuple[int, ...] = ()

    @property
    def opened(self) -> tuple[Path, ...]:
        """The model, and nothing of what it is asked."""
        return Path(self.artifact_dir), Path(self.lowered.directory)


@dataclass(frozen=True, slots=True)
class OpenResult:
    """Opened and warm. Latencies in ms: the very first call, then the warm-up calls."""

    open_seconds: float
    first_call: float
    warmup: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RoundResult:
    """One turn: raw samples by metric name, each in its metric's unit.

    `calls`: how often the model was called in the turn, for who measures it from outside.
    """

    samples: dict[str, tuple[float, ...]] = field(default_factory=dict)
    calls: int = 0


@dataclass(frozen=True, slots=True)
class AnswersResult:
    """Where the answers lie and how they score against the reference (itself for a baseline).

    elsewhere_bytes: the most memory of workers outside of the child's sandbox so far.
    """

    answers_file: str
    quality: tuple[Measurement, ...]
    attachments: tuple[Attachment, ...] = ()
    elsewhere_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ComputeRequest:
    """Everything a child needs to compute the numbers of a plan that is not measured.

    `reference_file`: the baseline's answers, against which its own are scored.
    """

    open: OpenRequest
    recipe: str
    host: HostFacts
    reference_file: str


@dataclass(frozen=True, slots=True)
class ComputeResult:
    """`measurements` end with the quality, where something answered."""

    measurements: tuple[Measurement, ...]
    attachments: tuple[Attachment, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CeilingsRequest:
    """Measure the host's ceilings for each of these, about `seconds` each."""

    threads: tuple[int, ...]
    precisions: tuple[Precision, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class CeilingsResult:
    peaks: tuple[Peak, ...]
    bandwidths: tuple[Bandwidth, ...]
