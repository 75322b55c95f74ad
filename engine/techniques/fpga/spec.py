"""FPGA: the model's products on an array of integer cores. What it offers and where it cannot go."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from engine.domain.artifact import ArtifactFormat
from engine.domain.knobs import Config, knob
from engine.domain.metrics import Provenance
from engine.domain.recipe import RuntimeId, TechniqueId
from engine.domain.technique import After, Excludes, Family, Obstacle, Phase, Situation, TechniqueSpec
from engine.fpga.synthesis import FIGURES
from engine.hardware.fpgas import fpga_of

LARGEST_EXECUTED = 1_000_000_000
"""Parameters up to which a model is executed in integers here; beyond, only its latency is projected."""


class Device(StrEnum):
    """The boards of data/fpgas.toml; a test holds this list to it."""

    ECP5_85F = "ecp5-85f"
    ARTIX7_100T = "artix7-100t"
    ZYNQ7020 = "zynq7020"
    ZU3EG = "zu3eg"
    ZCU104 = "zcu104"
    ZCU102 = "zcu102"
    K26 = "k26"
    ALVEO_U50 = "alveo-u50"
    ALVEO_U250 = "alveo-u250"
    ALVEO_U280 = "alveo-u280"
    VCK190 = "vck190"
    ARRIA10_GX1150 = "arria10-gx1150"
    AGILEX_AGF014 = "agilex-agf014"
    STRATIX10_NX = "stratix10-nx"


class Widths(StrEnum):
    AUTO = "auto"
    INT8 = "int8"
    MIXED = "mixed"
    INT4 = "int4"


class Goal(StrEnum):
    FASTEST = "fastest"
    SMALLEST = "smallest"


@dataclass(frozen=True, slots=True, kw_only=True)
class FpgaConfig(Config):
    """Settings of the placement on an FPGA."""

    device: Device = knob(Device.ZCU104, help="Board that is simulated", grid=("zcu104", "alveo-u280"), spelled=True)
    precision: Widths = knob(
        Widths.AUTO,
        help="Bits of weights and activations: int8 both; mixed int4 weights and int8 activations; int4 both; auto takes the "
        "recipe's quantization (int4 there means mixed), and int8 without one",
    )
    objective: Goal = knob(
        Goal.FASTEST, help="Which array is built: the fastest that fits the board, or the smallest that is fast enough"
    )
    within: float = knob(
        100.0, low=0.001, high=1e6, unit="ms", help="Latency that the smallest array must reach",
        shown_when={"objective": ("smallest",)},
    )  # fmt: skip


def least_bits(config: FpgaConfig) -> int:
    """Of a weight, by the config alone."""
    return 4 if config.precision in (Widths.MIXED, Widths.INT4) else 8


def obstacles(config: FpgaConfig, situation: Situation) -> list[Obstacle]:
    return [*_runtime_obstacles(situation), *_memory_obstacles(config, situation)]


def _runtime_obstacles(situation: Situation) -> list[Obstacle]:
    if situation.card.format is ArtifactFormat.ONNX:
        return [
            Obstacle(
                "An ONNX graph cannot be executed in the array's integers.",
                "Upload the Hugging Face directory it was exported from.",
            )
        ]
    if situation.runtime is not RuntimeId.EAGER:
        return [Obstacle("An FPGA takes no runtime: the array itself executes the model.", f"Leave out @{situation.runtime}.")]
    return []


def _memory_obstacles(config: FpgaConfig, situation: Situation) -> list[Obstacle]:
    board = fpga_of(str(config.device))
    # the recipe's own quantization may bring four bits, which is seen when it is carried out
    halved = config.precision is Widths.AUTO and "quantization" in situation.chosen
    needed = situation.card.parameters * (4 if halved else least_bits(config)) / 8
    there = board.memory_gb.value * 1e9
    if needed <= there:
        return []
    return [
        Obstacle(
            f"{situation.card.architecture} needs {needed / 1e9:.3g} GB for its weights and {board.title} has {there / 1e9:.3g} GB.",
            "Choose a board with more memory, or precision=mixed.",
        )
    ]


def provenance(config: FpgaConfig, situation: Situation) -> Provenance:
    """Simulated where the model is executed in integers on cycles that equal the RTL's; else projected from its shapes."""
    return Provenance.SIMULATED if situation.card.parameters <= LARGEST_EXECUTED else Provenance.PROJECTED


SPEC = TechniqueSpec(
    id=TechniqueId("fpga"),
    title="FPGA",
    family=Family.HARDWARE,
    phase=Phase.PLACE,
    summary="Places the model's products on an array of integer cores of an FPGA board, simulated: answers bit for bit, "
    "latency by the cycle.",
    config=FpgaConfig,
    implementation="engine.techniques.fpga.apply:FpgaPlacement",
    rules=(
        Excludes(TechniqueId("gpu"), "a model is placed on one kind of device."),
        Excludes(TechniqueId("model_parallelism"), "one board is simulated, not several."),
        Excludes(TechniqueId("distributed"), "one board is simulated, not several."),
        After(TechniqueId("distillation"), "The array is chosen for the student."),
        After(TechniqueId("pruning"), "The array is chosen for the shapes that pruning leaves."),
        After(TechniqueId("quantization"), "Quantization says how many bits the array computes with."),
    ),
    obstacles=obstacles,
    provenance=provenance,
    figures=FIGURES,
)
