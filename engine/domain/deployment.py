"""What a plan makes of an artifact: variant, formats, deployment, lowered files.

All frozen, torch-free and JSON-serialisable (engine.domain.codec), so that they
cross processes, hosts and caches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from engine.domain.artifact import ModelCard
from engine.domain.experiment import StageFacts
from engine.domain.layout import Layout
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload


class NumberFormat(StrEnum):
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"


class QuantizationMode(StrEnum):
    """How activations are treated when weights are integers."""

    NONE = "none"
    DYNAMIC = "dynamic"
    """Weights and activations in integers, activation scales found while running."""
    STATIC = "static"
    """Weights and activations in integers, activation scales calibrated before."""
    WEIGHT_ONLY = "weight_only"
    """Weights in integers, arithmetic in floating point."""


class WeightCalibration(StrEnum):
    """What chooses the 4-bit values: the weights alone, or real activations as well."""

    AUTO = "auto"
    """The best that the runtime has."""
    NONE = "none"
    """Rounding to the nearest value of each group's own grid."""
    AWQ = "awq"
    """Channels that meet large activations are scaled up first (Lin et al. 2023)."""
    GPTQ = "gptq"
    """Each column's rounding error is made up for in the columns after it (Frantar et al. 2022)."""
    SCALE_ESTIMATION = "scale_estimation"
    """Scales fitted to the layers' outputs."""


SMOOTHING = 0.7
"""SmoothQuant's alpha when nobody chooses one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """Number formats a runtime realises when it lowers. fp32 and NONE: as uploaded."""

    weights: NumberFormat = NumberFormat.FP32
    mode: QuantizationMode = QuantizationMode.NONE
    group_size: int = 0
    """Weights that share a scale; 0: the runtime's choice."""
    calibration: WeightCalibration = WeightCalibration.AUTO
    smooth: float = SMOOTHING
    """SmoothQuant's alpha where activations are quantized; 0: not smoothed."""
    ratio: float = 1.0
    """Share of the weights that get int4; the more sensitive rest gets int8."""
    shortlist: int = 0
    """A causal LM's logits that keep int8 where its weights are int4: the largest so many; 0: all."""
    kv_cache: NumberFormat = NumberFormat.FP32
    """INT8, or as the model computes."""
    fallback: float = 0.0
    """Quality on calibration items below which sensitive layers keep more bits; 0: none do."""

    @property
    def is_plain(self) -> bool:
        return self.weights is NumberFormat.FP32


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a runtime opens the model, and how it is called there. The default is the CPU."""

    device: str = "cpu"
    """As torch.accelerator names it (`cuda`, `xpu`, `mps`), or `cpu`."""
    tf32: bool = True
    cuda_graphs: bool = True
    channels_last: bool = True
    attention: str = "auto"
    """The kernel of scaled dot-product attention: auto, flash, efficient, math."""

    @property
    def is_cpu(self) -> bool:
        return self.device == "cpu"


@dataclass(frozen=True, slots=True)
class Variant:
    """Weights and graph in a directory: the artifact's own, or what a stage wrote.

    Beside the artifact's files it may hold `variant.json` (see
    engine.tasks.loading): attributes and shapes that config.json cannot say.
    """

    directory: str
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Deployment:
    """Variant + formats + runtime + layout, not yet running (MLPerf's SUT)."""

    card: ModelCard
    variant: Variant
    runtime: RuntimeId
    workload: Workload
    formats: Formats = Formats()
    placement: Placement = Placement()
    layout: Layout = Layout()

    def with_(self, **changes: object) -> Self:
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Applied:
    """What a technique returns: a new deployment and what it did."""

    deployment: Deployment
    facts: StageFacts


@dataclass(frozen=True, slots=True)
class Lowered:
    """Files a runtime made from a deployment, in `directory`.

    `files` are relative paths a downloader needs, `size_bytes` their sum. `settings`
    is what the runtime must be told when it opens them again (flat, JSON).
    """

    runtime: RuntimeId
    directory: str
    files: tuple[str, ...]
    size_bytes: int
    settings: dict[str, str]
    facts: StageFacts
    layout: Layout = Layout()
    """How it is opened: in one process, or spread over several."""
    placement: Placement = Placement()
    """Where it is opened."""
