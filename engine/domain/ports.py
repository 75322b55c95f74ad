"""The interfaces the parts of the engine meet at. Numpy is the lingua franca."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from engine.domain.artifact import ModelCard, NamedModel
from engine.domain.deployment import Applied, Deployment, Lowered, Variant
from engine.domain.experiment import Attachment, Progress
from engine.domain.metrics import Measurement
from engine.domain.recipe import RuntimeId
from engine.domain.technique import TechniqueSpec
from engine.domain.workload import Workload

Array = NDArray[Any]
Batch = Mapping[str, Array]
"""Model inputs by name; the first axis is the batch."""
Outputs = Mapping[str, Array]
"""Model outputs by name, as `Task` documents them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The calibration items as they are, before batches of the workload's shape are made of them: what a stage learns from.

    `texts`, or `arrays` whose first axis is the item (uint8 images under `images`); `labels`
    int64 class ids, one an item, where somebody gave them. `scored_texts` is what must not
    come in through any other source.
    """

    texts: tuple[str, ...] = ()
    arrays: Mapping[str, Array] = field(default_factory=dict)
    labels: Array | None = None
    scored_texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """What a stage may use: where to write, what calibrates, whom to tell."""

    scratch: Path
    """An empty directory of this stage's own; what it leaves there is kept."""
    calibration: Sequence[Batch]
    """Real inputs, disjoint from what is scored. At least one batch."""
    report: Callable[[Progress], None]
    threads: int
    original: Variant | None = None
    """The artifact before any stage: a trained stage's teacher."""
    material: Material | None = None
    checkpoints: Path | None = None
    """A directory of this stage's own that outlives a killed child; a repeated transform finds it as it was left."""
    models: Mapping[str, NamedModel] = field(default_factory=dict)
    """Other uploaded models, by the ids that the recipe names them by."""
    figures: Path | None = None
    """What tools found in this home that the technique computes from (`TechniqueSpec.figures`), to read."""


class Technique(Protocol):
    """The work of one of the seven. Imported in child processes only."""

    spec: TechniqueSpec

    def apply(self, deployment: Deployment, config: Any, context: Context) -> Applied:
        """A new deployment and the facts; the one passed in stays usable.

        Raises StageError when the model cannot take it, NothingChanged when it
        turned out to change nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Generation:
    """What `Executor.generate` did: `tokens` (batch, new_tokens) and, in seconds from
    the call, when each new token was ready (`token_times`, length new_tokens)."""

    tokens: Array
    token_times: tuple[float, ...]


class Executor(Protocol):
    """An opened deployment. Not thread-safe."""

    def infer(self, batch: Batch) -> Outputs:
        """One call. Causal LM: `logits` (batch, sequence, vocabulary) of the whole input."""
        ...

    def generate(self, input_ids: Array, new_tokens: int) -> Generation:
        """Greedy decoding with a KV cache, exactly `new_tokens` (no stop token).

        `input_ids`: int64 (batch, prompt). Raises StageError when the task is not a
        causal LM.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Computed:
    """Numbers of a deployment on hardware that is not here, each with its provenance.

    `measurements` hold at least `latency`; its `ci95` is the error band. `executor`
    answers the scored items as that hardware would; None: nothing is known of the
    quality there.
    """

    measurements: tuple[Measurement, ...]
    executor: Executor | None = None
    attachments: tuple[Attachment, ...] = ()
    remarks: tuple[str, ...] = ()


class Reshaping(Technique, Protocol):
    """A technique that rewrites the model's shapes, and can do so without what it takes to keep the quality."""

    def reshape(self, deployment: Deployment, config: Any, context: Context) -> Variant:
        """A variant of the very shapes that `apply` would leave, untrained: what a projection needs. Raises as `apply`."""
        ...


class Computing(Technique, Protocol):
    """A placement whose numbers are computed, not clocked: a simulated or a projected device."""

    def lower(self, deployment: Deployment, context: Context) -> Lowered:
        """Write what `compute` reads into `context.scratch`; takes the place of a runtime's lowering."""
        ...

    def compute(self, lowered: Lowered, config: Any, card: ModelCard, workload: Workload, threads: int) -> Computed:
        """The numbers, and what answers. Raises StageError when they cannot be computed."""
        ...


class Runtime(Protocol):
    """Lowers a deployment to files and opens them. Imported in child processes only."""

    id: RuntimeId

    def lower(self, deployment: Deployment, context: Context) -> Lowered:
        """Write what this runtime runs into `context.scratch`, number formats realised.

        Raises StageError, and NothingChanged when the formats asked for are not
        found in the files that were produced.
        """
        ...

    def open(self, lowered: Lowered, card: ModelCard, workload: Workload, threads: int) -> Executor:
        """Ready to answer; compilation happens here or in the first call."""
        ...
