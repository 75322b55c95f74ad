"""`python -m engine project PATH --device h100`: what a model would do on devices that are not here."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.cli.intake import take_in_path
from engine.cli.output import check_destination, show
from engine.cli.waiting import say_who_holds
from engine.domain.artifact import Artifact
from engine.domain.errors import NotFound
from engine.domain.recipe import Recipe
from engine.domain.workload import Workload
from engine.execution.scratch import scratch
from engine.execution.tracing import trace
from engine.grammar import parse_recipe
from engine.hardware.gpus import gpu_of, gpus
from engine.hardware.operators import Network
from engine.hardware.projection import Projection, project
from engine.hardware.scenarios import scenario_of
from engine.settings import Settings
from storage import Storage, open_storage


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Every recipe on every device. Raises InvalidInput, StageError."""
    recipes = [parse_recipe(text) for text in options.recipe] or [Recipe()]
    workload = Workload.parse_words(options.workload)
    devices = [gpu_of(id) for id in options.device] or list(gpus())
    check_destination(options.json)
    with scratch(settings) as home:
        place = replace(
            settings, home=home, database_url=f"sqlite:///{home / 'speedrail.db'}", artifacts_url=f"file://{home / 'store'}"
        )
        storage = open_storage(place)
        artifact = _artifact(options.model, storage, place, settings)
        network = trace(artifact, workload, storage, place, say_who_holds())
    found = []
    for recipe in recipes:
        scenario = scenario_of(recipe, artifact.card)
        found += [(str(recipe), project(network, device, scenario.precision, scenario.execution)) for device in devices]
    data = [as_data(text, projection, network) for text, projection in found]
    show({"model": artifact.name, "artifact": artifact.id, "provenance": "projected", "projections": data}, _table(found), options.json)
    return 0


def _artifact(model: str, storage: Storage, place: Settings, settings: Settings) -> Artifact:
    if Path(model).expanduser().exists():
        return take_in_path(Path(model), "", storage, place)
    own = open_storage(settings)
    try:
        artifact = own.artifacts.get(model)
    except NotFound:
        raise NotFound(f"{model} is neither a path nor the id of an artifact.", mend="See `python -m engine intake`.", where="PATH_OR_ID") from None
    storage.files.put_directory(artifact.id, own.files.local_path(artifact.id))
    return artifact


def as_data(recipe: str, projection: Projection, network: Network) -> dict[str, Any]:
    """Plain data; latencies in ms, memory in bytes, energy in joules an item."""
    first, step = projection.first_token, projection.per_token
    return {
        "recipe": recipe, "device": projection.device.id, "device_name": projection.device.name,
        "device_source": projection.device.source, "provenance": "projected", "precision": projection.precision.name,
        "latency_ms": projection.latency * 1e3, "latency_band_ms": [projection.low * 1e3, projection.high * 1e3],
        "time_to_first_token_ms": None if first is None else first * 1e3,
        "time_per_output_token_ms": None if step is None else step * 1e3,
        "throughput_per_s": projection.throughput, "fits": projection.fits,
        "memory_bytes": {
            "weights": projection.memory.weights, "kv_cache": projection.memory.cache,
            "activations": projection.memory.activations, "reserved": projection.memory.reserved,
            "total": projection.memory.total, "device": projection.device.memory_bytes,
        },
        "energy_j_per_item": [projection.joules_low / projection.items, projection.joules_high / projection.items],
        "bound": str(projection.bound), "batch": network.batch, "sequence": network.sequence, "new_tokens": network.steps + 1 if network.steps else 0,
        "fitted": list(projection.efficiency.fitted),
    }  # fmt: skip


def _table(found: list[tuple[str, Projection]]) -> str:
    lines = [f"{'projected on':32} {'latency, ms':>12} {'band':>19} {'items/s':>10} {'memory, GB':>11} {'bound by':>9}  recipe"]
    for recipe, p in found:
        fits = "" if p.fits else "  OUT OF MEMORY"
        band = f"{p.low * 1e3:.3g} to {p.high * 1e3:.3g}"
        lines.append(
            f"{p.device.name:32} {p.latency * 1e3:12.3g} {band:>19} {p.throughput:10.4g} {p.memory.total / 1e9:11.2f} {p.bound:>9}"
            f"  {recipe or 'as uploaded'}{fits}"
        )
    return "\n".join(lines)
