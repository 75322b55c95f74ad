"""`python -m engine fpga estimate`: tier 1 of the FPGA simulation, for a model's files or a published network."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from engine.cli.output import check_destination, show
from engine.cli.run import artifact_of, place_for
from engine.domain.codec import as_data, from_data
from engine.domain.errors import InvalidInput, NotFound
from engine.domain.experiment import Progress
from engine.domain.workload import Workload
from engine.execution.lock import HostLock
from engine.fpga.array import Precision
from engine.fpga.placing import on_array
from engine.fpga.plan_file import PassRow, PlanFile, energy_words
from engine.fpga.resources import TITLES, Syntheses
from engine.fpga.search import Objective, find_design
from engine.fpga.synthesis import all_known, figures
from engine.hardware.fpgas import fpga_of
from engine.hardware.networks import names, network
from engine.hardware.operators import Network
from engine.intake.reader import read_in_child
from engine.requests import OperatorsRequest
from engine.settings import Settings
from storage import open_storage

_PRECISIONS = {
    "int8": Precision(), "mixed": Precision(weights=4), "int4": Precision(weights=4, activations=4),
}  # fmt: skip


def fpga_estimate(settings: Settings, options: argparse.Namespace) -> int:
    """Raises InvalidInput for a board, model or latency that is not to be had."""
    check_destination(options.json)
    board = fpga_of(options.device)
    if options.within < 0:
        raise InvalidInput("A latency is not negative.", where="--within")
    workload = Workload.parse_words(options.workload)
    shapes = _network(options.model, workload, settings)
    objective = Objective.SMALLEST if options.within else Objective.FASTEST
    found = find_design(
        on_array(shapes), board, _PRECISIONS[options.precision], objective, within_seconds=options.within / 1e3,
        known=Syntheses(all_known(figures(settings.home))),
    )  # fmt: skip
    plan = PlanFile.of(found)
    # nothing is executed here, so nothing is said of the host's functions or the RTL
    data = {k: v for k, v in as_data(plan).items() if k not in ("host_work", "scaled_by_row", "sampled", "executed")}
    show({"provenance": "projected", **data}, _text(plan), options.json)
    return 0


def _network(model: str, workload: Workload, settings: Settings) -> Network:
    if model in names() and not Path(model).exists():
        return network(
            model, batch=workload.batch_size, sequence=workload.sequence_length, new_tokens=workload.new_tokens,
            image_size=workload.image_size or 224,
        )  # fmt: skip
    with place_for(settings, save=False) as place:
        storage = open_storage(place)
        try:
            artifact = artifact_of(model, storage, place, settings, HostLock(settings.home))
        except NotFound as error:
            raise NotFound(error.what, mend=f"{error.mend} Published networks: {', '.join(names())}.", where=error.where) from None
        directory = storage.files.local_path(artifact.id)
        scratch = place.home / "trace"
        scratch.mkdir()
        request = OperatorsRequest(str(directory), artifact.card, workload)
        result = read_in_child("operators", request, [directory], scratch, place, _tell)
        return from_data(Network, result)


def _tell(progress: Progress) -> None:
    print(progress.stage, file=sys.stderr)


def _text(plan: PlanFile) -> str:
    low, high = plan.band
    lines = [
        f"{plan.network} on {plan.title}, {plan.precision}, projected",
        f"array           {plan.cores} × {plan.size} × {plan.size} at {plan.clock_hz / 1e6:.0f} MHz ({plan.clock_status}), "
        f"{plan.buffer_bytes / 1024:.0f} KiB buffer",
        f"latency         {_ms(plan.seconds)} ms ({_ms(low)} to {_ms(high)}), {plan.items_per_second:.3g} items/s",
        f"bound by        {plan.bound}",
        f"energy          {energy_words(plan.joules)} a call",
        "resources       " + ", ".join(f"{TITLES[name]} {taken / there:.0%}" for name, (taken, there) in plan.resources.items() if there),
    ]  # fmt: skip
    return "\n".join([*lines, *(row for one in plan.passes for row in _rows(one))])


def _rows(one: PassRow) -> list[str]:
    waits = ", ".join(f"{name} {_ms(seconds)} ms" for name, seconds in one.waits.items())
    head = f"\n{one.title}{f' (× {one.times})' if one.times > 1 else ''}: {_ms(one.seconds)} ms; {waits}"
    return [
        head,
        *(
            f"  {layer.name:44.44} {layer.place:6} {layer.seconds * 1e3:10.4f} ms  {layer.cycles:>12,} cycles  "
            f"{layer.utilisation:5.1%}  {layer.bound:7} {layer.gemm}"
            for layer in one.layers
        ),
    ]


def _ms(seconds: float) -> str:
    """Three significant digits, never a power of ten."""
    return f"{float(f'{seconds * 1e3:.3g}'):,.12g}"
