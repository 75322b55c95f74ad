"""Model parallelism: one model cut over several workers. What it offers and where it cannot go."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.knobs import Config, knob
from engine.domain.recipe import RuntimeId, TechniqueId
from engine.domain.technique import Family, Obstacle, Phase, RunsOn, Situation, TechniqueSpec
from engine.techniques.model_parallelism.support import (
    PACKED,
    UNCUT,
    UNTRACED,
    degrees_for,
    is_splittable,
    splittable_names,
)


class Kind(StrEnum):
    PIPELINE = "pipeline"
    TENSOR = "tensor"


class Split(StrEnum):
    AUTO = "auto"
    WHOLE = "whole"
    MLP = "mlp"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParallelismConfig(Config):
    """Settings of model parallelism."""

    kind: Kind = knob(
        Kind.PIPELINE,
        help="Pipeline: each worker has a stretch of layers. Tensor: each has a slice of every layer",
        grid=("pipeline", "tensor"), spelled=True,
    )  # fmt: skip
    degree: int = knob(2, low=2, high=64, help="Workers over which one model is cut", grid=(2, 4), spelled=True)
    microbatches: int = knob(
        0, low=0, high=256, help="Pieces of a batch that are under way at once; 0 takes as many as workers",
        shown_when={"kind": ("pipeline",)},
    )  # fmt: skip
    split: Split = knob(
        Split.AUTO,
        help="What tensor parallelism splits: attention and MLPs (whole), MLPs alone (mlp), or attention too where its "
        "heads divide (auto)",
        shown_when={"kind": ("tensor",)},
    )
    hosts: int = knob(1, low=1, high=64, help="Hosts over which the workers are placed")
    timeout: float = knob(60.0, low=1.0, high=3600.0, unit="s", help="Without an answer from a worker the run ends after so long")

    @property
    def workers(self) -> int:
        return self.degree


def obstacles(config: ModelParallelismConfig, situation: Situation) -> list[Obstacle]:
    if situation.card.format is ArtifactFormat.ONNX:
        return [
            Obstacle(
                "An ONNX graph is not cut into parts.",
                "Upload the Hugging Face directory it was made from, or choose distributed() for whole replicas.",
            )
        ]
    found = [] if _is_projected(situation) else _executor_obstacles(config, situation)
    if config.kind is Kind.PIPELINE:
        return [*found, *_pipeline_obstacles(config, situation.card)]
    return [*found, *_tensor_obstacles(config, situation.card)]


def _is_projected(situation: Situation) -> bool:
    """On devices that are not here: nothing is cut, so what our executors lack does not matter."""
    placement = situation.chosen.get(TechniqueId("gpu"))
    return str(getattr(placement, "device", "auto")) != "auto"


def _executor_obstacles(config: ModelParallelismConfig, situation: Situation) -> list[Obstacle]:
    if situation.runtime is RuntimeId.INDUCTOR and situation.task is TaskId.CAUSAL_LM:
        return [Obstacle("A causal LM that is cut generates without compiling.", "Choose @eager.")]
    return _packed(situation) if config.kind is Kind.TENSOR else []


def _packed(situation: Situation) -> list[Obstacle]:
    quantization = situation.chosen.get(TechniqueId("quantization"))
    format = str(getattr(quantization, "format", ""))
    if format not in PACKED:
        return []
    return [
        Obstacle(
            f"Tensor parallelism does not split {format} matrices: they are packed for one worker's kernels.",
            "Choose kind=pipeline, or quantization(format=bf16).",
        )
    ]


def _pipeline_obstacles(config: ModelParallelismConfig, card: ModelCard) -> list[Obstacle]:
    if card.architecture.startswith(UNCUT):
        return [
            Obstacle(
                f"The blocks of a {card.architecture} look themselves up by number in the whole model.",
                "Choose distributed() for whole replicas.",
            )
        ]
    if card.architecture.startswith(UNTRACED):
        return [
            Obstacle(
                f"The graph of a {card.architecture} is traced but cannot be cut: its rotary positions cross every place.",
                "Choose kind=tensor." if is_splittable(card) else "Choose distributed() for whole replicas.",
            )
        ]
    if 0 < card.num_layers < config.degree:
        return [
            Obstacle(
                f"{card.architecture} has {card.num_layers} layers, fewer than the {config.degree} workers.",
                f"Choose a degree of at most {card.num_layers}.",
            )
        ]
    return []


def _tensor_obstacles(config: ModelParallelismConfig, card: ModelCard) -> list[Obstacle]:
    if not is_splittable(card):
        return [
            Obstacle(
                f"There is no plan that splits the layers of a {card.architecture}: tensor parallelism needs transformer "
                f"layers as {splittable_names()} have them.",
                "Choose kind=pipeline.",
            )
        ]
    heads, mlp = degrees_for(card, attention=True), degrees_for(card, attention=False)
    if config.split is Split.WHOLE and config.degree not in heads:
        return [
            Obstacle(
                f"{card.num_heads} heads and {card.num_kv_heads or card.num_heads} key-value heads do not divide by {config.degree}.",
                f"Choose a degree of {_listed(heads)}, or split=mlp.",
            )
        ]
    if config.degree not in mlp:
        return [
            Obstacle(
                f"The {card.intermediate_size} features of an MLP do not divide by {config.degree}.",
                f"Choose a degree of {_listed(mlp)}.",
            )
        ]
    return []


def _listed(degrees: tuple[int, ...]) -> str:
    return " or ".join(map(str, degrees[:6])) or "no other than 1"


SPEC = TechniqueSpec(
    id=TechniqueId("model_parallelism"),
    title="Model parallelism",
    family=Family.ALGORITHM,
    phase=Phase.SPREAD,
    summary="Cuts one model over several workers, layer after layer (pipeline) or inside each layer (tensor).",
    config=ModelParallelismConfig,
    implementation="engine.techniques.model_parallelism.apply:ModelParallelism",
    rules=(
        RunsOn(
            frozenset({RuntimeId.EAGER, RuntimeId.INDUCTOR}),
            "only a torch module can be cut; the other runtimes take a whole graph.",
        ),
    ),
    obstacles=obstacles,
)
