"""The placement: integers from calibration, the array found for the network, a sample of tiles run on the RTL."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from engine.domain.artifact import ModelCard
from engine.domain.deployment import Applied, Deployment, Formats, Lowered, NumberFormat, QuantizationMode, Variant
from engine.domain.errors import InvalidInput, StageError
from engine.domain.experiment import Progress, StageFacts
from engine.domain.ports import Batch, Computed, Context
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.fpga.array import Precision
from engine.fpga.calibration import Watcher
from engine.fpga.execution import IntegerExecutor
from engine.fpga.integer_network import IntegerProduct, integer_products, row_scalings
from engine.fpga.machine import RowScaling
from engine.fpga.placing import on_array
from engine.fpga.plan_file import PlanFile, Sampled, read_plan, write_plan
from engine.fpga.resources import Syntheses
from engine.fpga.sampling import run_sample
from engine.fpga.search import Found, Objective, find_design
from engine.fpga.stored_integers import load, save
from engine.fpga.synthesis import all_known
from engine.hardware.fpgas import fpga_of
from engine.hardware.operators import Network
from engine.hardware.tracing import trace
from engine.tasks.loading import load_module, save_variant
from engine.tasks.traceable import Traceable
from engine.techniques.fpga.results import computed_of
from engine.techniques.fpga.spec import LARGEST_EXECUTED, SPEC, FpgaConfig, Widths
from engine.techniques.fpga.storing import drop_weights, without_weights

CALIBRATION_BATCHES = 24


class FpgaPlacement:
    """Simulated where the model is executed in integers, projected where it is too large for that."""

    spec = SPEC

    def apply(self, deployment: Deployment, config: FpgaConfig, context: Context) -> Applied:
        """A variant whose products are integers, with the array that was found for it, in `context.scratch`.

        Raises StageError when the formats are none of an integer array's, when nothing can be
        placed on one, or when no array fits the board.
        """
        began = time.perf_counter()
        precision = precision_of(config, deployment.formats)
        module = load_module(deployment.variant, deployment.card)
        context.report(Progress("Counting operators", 0.02))
        network = on_array(trace(module, deployment.card, deployment.workload))
        find = partial(_found, network, config, precision, Syntheses(all_known(context.figures)))
        found = find(scaled=None)
        executed = deployment.card.parameters <= LARGEST_EXECUTED
        sampled, host_work = Sampled(), {}
        if executed:
            products, watcher = _calibrated(module, context, precision)
            host_work = dict(watcher.others)
            found = find(scaled=row_scalings(products, watcher.observed))
            context.report(Progress("Running tiles on the RTL", 0.7))
            sampled = run_sample(products, context.scratch)
            context.report(Progress("Writing integers", 0.9))
            save_variant(module, context.scratch, {}, deployment.variant)
            drop_weights(context.scratch, watcher.weight_names())
            save(products, context.scratch)
        plan = PlanFile.of(found, host_work, sampled, executed)
        write_plan(plan, context.scratch)
        facts = StageFacts(self.spec.id, time.perf_counter() - began, plan.facts(), plan.remarks())
        return Applied(deployment.with_(variant=Variant(str(context.scratch), changed=True)), facts)

    def lower(self, deployment: Deployment, context: Context) -> Lowered:
        """What `apply` wrote is what is computed from."""
        directory = Path(deployment.variant.directory)
        files = tuple(sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()))
        size = sum((directory / name).stat().st_size for name in files)
        facts = StageFacts("array", 0.0, {"files_bytes": size})
        return Lowered(RuntimeId.EAGER, str(directory), files, size, {"device": read_plan(directory).board}, facts)

    def compute(self, lowered: Lowered, config: FpgaConfig, card: ModelCard, workload: Workload, threads: int) -> Computed:
        directory = Path(lowered.directory)
        plan = read_plan(directory)
        if not plan.executed:
            return computed_of(plan, None)
        module = load_module(Variant(str(directory)), card, partial(without_weights, directory=directory))
        return computed_of(plan, IntegerExecutor(module, load(directory)))


def precision_of(config: FpgaConfig, formats: Formats) -> Precision:
    """Bits of the operands from the knob, or from the recipe's quantization. Raises StageError."""
    match config.precision:
        case Widths.INT8:
            return Precision()
        case Widths.MIXED:
            return Precision(weights=4)
        case Widths.INT4:
            return Precision(weights=4, activations=4)
    if formats.mode is QuantizationMode.WEIGHT_ONLY:
        raise StageError("An integer array multiplies integers on both sides; weight_only leaves activations in floating point.",
                         mend="Leave the mode to auto.")  # fmt: skip
    match formats.weights:
        case NumberFormat.FP32 | NumberFormat.INT8:
            return Precision()
        case NumberFormat.INT4:
            return Precision(weights=4)
    raise StageError(f"The array multiplies integers, not {formats.weights}.", mend="Choose format=int8 or format=int4.")


def _found(
    network: Network, config: FpgaConfig, precision: Precision, known: Syntheses, *, scaled: Mapping[str, RowScaling] | None
) -> Found:
    try:
        return find_design(
            network, fpga_of(str(config.device)), precision, Objective(str(config.objective)),
            within_seconds=config.within / 1e3, known=known, scaled=scaled,
        )  # fmt: skip
    except InvalidInput as error:
        raise StageError(error.what, mend=error.mend, where=error.where) from error


def _calibrated(module: Traceable, context: Context, precision: Precision) -> tuple[tuple[IntegerProduct, ...], Watcher]:
    watcher = Watcher(module)

    def progress(share: float) -> None:
        context.report(Progress("Observing activations", 0.05 + 0.55 * share))

    watcher.watch(_tensors(context.calibration[:CALIBRATION_BATCHES], module), progress)
    context.report(Progress("Choosing integer grids", 0.6))
    return integer_products(watcher.observed, precision), watcher


def _tensors(batches: Sequence[Batch], module: Traceable) -> list[tuple[torch.Tensor, ...]]:
    return [tuple(torch.from_numpy(batch[name].copy()) for name in module.inputs) for batch in batches]
