"""GPU: sets where the runtime opens the model; on a device of the catalogue, projects instead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.domain.artifact import ModelCard
from engine.domain.codec import decode, encode
from engine.domain.deployment import Applied, Deployment, Lowered, Placement
from engine.domain.errors import StageError
from engine.domain.experiment import StageFacts
from engine.domain.ports import Computed, Context
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.hardware.accelerators import accelerators
from engine.hardware.gpus import gpu_of
from engine.hardware.operators import Network
from engine.hardware.precisions import precision_named, precision_of
from engine.hardware.projection import project
from engine.hardware.spreading import spread
from engine.hardware.tracing import network_of
from engine.runtimes.registry import runtime_of
from engine.techniques.gpu.results import (
    attachment,
    degrees_of,
    demand_fit,
    execution_of,
    measurements,
    remarks,
    spread_remarks,
)
from engine.techniques.gpu.spec import AUTO, SPEC, GpuConfig

OPERATORS = "operators.json"
PRECISION = "projected_precision"


_OWN_DEVICES = {RuntimeId.ONNXRUNTIME: "cuda", RuntimeId.OPENVINO: "xpu"}
"""What runtimes drive without torch."""


def _torchs_device() -> str:
    """Raises StageError when there is none."""
    import torch

    kind = torch.accelerator.current_accelerator(check_available=True)
    if kind is None:
        raise StageError("PyTorch sees no accelerator here.", mend="Run `python -m engine doctor`.")
    return kind.type


class GpuPlacement:
    """A measured run is lowered and opened by its runtime; a projected one is traced and computed."""

    spec = SPEC

    def apply(self, deployment: Deployment, config: GpuConfig, context: Context) -> Applied:
        """Sets `placement`, or for a device of the catalogue leaves the CPU in it.

        Raises StageError when the accelerator that was there at planning is gone.
        """
        if config.device != AUTO:
            gpu = gpu_of(str(config.device))
            facts: dict[str, float | int | str | bool] = {
                "device": gpu.name, "device_source": gpu.source, "provenance": "projected",
            }  # fmt: skip
            return Applied(deployment, StageFacts(self.spec.id, 0.0, facts))
        kind = _OWN_DEVICES.get(deployment.runtime) or _torchs_device()
        placement = Placement(
            device=kind, tf32=config.tf32, cuda_graphs=config.cuda_graphs and kind == "cuda", channels_last=config.channels_last,
            attention=str(config.attention),
        )  # fmt: skip
        facts = {"device": ", ".join(a.name for a in accelerators() if a.kind == kind) or kind, "provenance": "measured"}
        if deployment.runtime not in _OWN_DEVICES:
            facts |= {"tf32": placement.tf32, "cuda_graphs": placement.cuda_graphs}
        return Applied(deployment.with_(placement=placement), StageFacts(self.spec.id, 0.0, facts))

    def lower(self, deployment: Deployment, context: Context) -> Lowered:
        """The runtime's own files, which answer on the CPU in the same formats, and the variant's operators beside them."""
        network = network_of(deployment.variant, deployment.card, deployment.workload)
        lowered = runtime_of(deployment.runtime).lower(deployment, context)
        (Path(lowered.directory) / OPERATORS).write_text(encode(network))
        precision = precision_of(deployment.formats, deployment.card.task).name
        return replace(lowered, settings={**lowered.settings, PRECISION: precision})

    def compute(self, lowered: Lowered, config: GpuConfig, card: ModelCard, workload: Workload, threads: int) -> Computed:
        """Raises StageError when the model would not fit into the device's memory."""
        network = decode(Network, (Path(lowered.directory) / OPERATORS).read_text())
        precision = precision_named(lowered.settings[PRECISION])
        if precision.name == "tf32" and not config.tf32:
            precision = precision_named("fp32")
        gpu = gpu_of(str(config.device))
        projected = project(network, gpu, precision, execution_of(lowered.runtime, config))
        said = remarks(projected, lowered.runtime)
        picture = attachment(projected)
        if lowered.layout.is_spread:
            over = spread(network, projected, degrees_of(lowered.layout), gpu.link or gpu.host_link)
            projected, said = over.as_projection(), (*said, *spread_remarks(over))
        demand_fit(projected)
        executor = runtime_of(lowered.runtime).open(lowered, card, workload, threads)
        return Computed(measurements(projected), executor, (picture,), said)
