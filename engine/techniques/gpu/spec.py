"""GPU: where the model runs. Measured on this host's accelerator, or projected on one of the catalogue."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from engine.domain.artifact import TaskId
from engine.domain.knobs import Config, knob
from engine.domain.metrics import Provenance
from engine.domain.recipe import RuntimeId, TechniqueId
from engine.domain.technique import After, Family, Obstacle, Phase, Situation, TechniqueSpec
from engine.hardware.gpus import gpu_of, gpus

AUTO = "auto"
DeviceChoice = StrEnum("DeviceChoice", {gpu.id.replace("-", "_").upper(): gpu.id for gpu in gpus()} | {"AUTO": AUTO})  # type: ignore[misc]
"""This host's accelerator, or a device of the catalogue to project on."""


class Attention(StrEnum):
    AUTO = "auto"
    FLASH = "flash"
    EFFICIENT = "efficient"
    MATH = "math"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuConfig(Config):
    """Settings of the placement."""

    device: DeviceChoice = knob(
        DeviceChoice(AUTO),
        help="auto measures on this host's accelerator; a device of the catalogue is projected: nothing runs on it, and "
        "every number says so",
        grid=("t4", "a100-80", "h100"), spelled=True,
    )  # fmt: skip
    tf32: bool = knob(True, help="fp32 products on tensor cores, with 10 bits of mantissa; number formats stay with quantization")
    cuda_graphs: bool = knob(True, help="Record the launches once and replay them: saves host time on small batches")
    channels_last: bool = knob(True, help="Images with channels innermost, as tensor cores want them")
    attention: Attention = knob(
        Attention.AUTO, help="Kernel of scaled dot-product attention; flash and efficient never write the scores to memory"
    )


_WHEEL = "Install PyTorch's wheel for it (pytorch.org/get-started)"
MENDS = {
    RuntimeId.EAGER: _WHEEL,
    RuntimeId.INDUCTOR: f"{_WHEEL}, which brings triton along",
    RuntimeId.ONNXRUNTIME: "pip install onnxruntime-gpu in place of onnxruntime",
    RuntimeId.OPENVINO: "openvino drives Intel's GPUs only",
}  # fmt: skip
"""What lets a runtime open models on this host's device."""


def obstacles(config: GpuConfig, situation: Situation) -> list[Obstacle]:
    if config.device != AUTO:
        gpu = gpu_of(str(config.device))
        return _without_fp8(gpu.name, "Choose a device that has, such as l4, h100 or mi300x") if _lacks_fp8(situation, gpu.peaks) else []
    able, runtime = situation.host.device_runtimes, situation.runtime
    if not able:
        return [
            Obstacle(
                "This host has no accelerator that the installed libraries can use.",
                "Project it on a device instead, for example gpu(device=h100); `python -m engine doctor` says what is missing.",
            )
        ]
    if runtime not in able:
        return [Obstacle(f"{runtime} cannot open a model on this host's GPU.", f"{MENDS[runtime]}, or choose @{' or @'.join(able)}.")]
    if runtime is RuntimeId.ONNXRUNTIME and situation.task is TaskId.CAUSAL_LM:
        return [Obstacle("The KV cache of our onnxruntime graphs lies in the host's memory.", "Choose @eager or @inductor.")]
    if runtime is RuntimeId.ONNXRUNTIME and TechniqueId("quantization") in situation.chosen:
        return [Obstacle("onnxruntime's CUDA provider has no kernels for the integers of its quantizers.", "Choose @eager or @inductor.")]
    if _lacks_fp8(situation, situation.host.device_formats):
        return _without_fp8(", ".join(a.partition(":")[2] for a in situation.host.accelerators), "Project it with gpu(device=h100)")
    return []


def _lacks_fp8(situation: Situation, formats: Collection[str]) -> bool:
    quantization = situation.chosen.get(TechniqueId("quantization"))
    return getattr(quantization, "format", "") == "fp8" and "fp8" not in formats


def _without_fp8(device: str, mend: str) -> list[Obstacle]:
    return [Obstacle(f"{device} has no units that multiply fp8: NVIDIA's Ada and Hopper and AMD's CDNA 3 on have.", f"{mend}, or choose format=int8.")]


def provenance(config: GpuConfig, situation: Situation) -> Provenance:
    return Provenance.MEASURED if config.device == AUTO else Provenance.PROJECTED


SPEC = TechniqueSpec(
    id=TechniqueId("gpu"),
    title="GPU",
    family=Family.HARDWARE,
    phase=Phase.PLACE,
    summary="Runs the model on an accelerator, or projects what one of the catalogue would do.",
    config=GpuConfig,
    implementation="engine.techniques.gpu.apply:GpuPlacement",
    rules=(
        After(TechniqueId("quantization"), "Formats are chosen first; the device's kernels realise them."),
    ),
    obstacles=obstacles,
    provenance=provenance,
    suggested=(),
)
