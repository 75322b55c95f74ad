"""`python -m engine project PATH --device h100`: what a model would do on devices that are not here."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from engine.cli.intake import take_in_path
from engine.cli.output import check_destination, show
from engine.cli.waiting import say_who_holds
from engine.domain.artifact import Artifact, ModelCard
from engine.domain.errors import InvalidInput, NotFound
from engine.domain.recipe import Recipe
from engine.domain.workload import Workload
from engine.execution.scratch import scratch
from engine.execution.tracing import trace
from engine.grammar import parse_recipe
from engine.hardware.gpus import gpu_of, gpus
from engine.hardware.links import link_of
from engine.hardware.networks import card_of, names, network
from engine.hardware.operators import Network
from engine.hardware.projection import Projection, project
from engine.hardware.scenarios import Scenario, scenario_of
from engine.hardware.spreading import Degrees, Spread, spread
from engine.settings import Settings
from engine.techniques.gpu.results import shortage
from engine.techniques.model_parallelism.support import degrees_for
from storage import Storage, open_storage


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Every recipe on every device. Raises InvalidInput, StageError."""
    published = options.model in names() and not Path(options.model).exists()
    # published figures are in 16 bits
    recipes = [parse_recipe(text) for text in options.recipe] or [parse_recipe("quantization(format=bf16)") if published else Recipe()]
    asked = degrees_of(options)
    link = link_of(options.link) if options.link else None
    workload = Workload.parse_words(options.workload)
    devices = [gpu_of(id) for id in options.device] or list(gpus())
    check_destination(options.json)
    if published:
        name, artifact_id, card = options.model, "", card_of(options.model)
        scenarios = [scenario_of(recipe, card) for recipe in recipes]
        degrees, refused = divided(asked, card)
        networks = [_published(name, workload, each) for each in scenarios]
    else:
        with scratch(settings) as home:
            place = replace(
                settings, home=home, database_url=f"sqlite:///{home / 'speedrail.db'}", artifacts_url=f"file://{home / 'store'}"
            )
            storage = open_storage(place)
            artifact = _artifact(options.model, storage, place, settings)
            name, artifact_id, card = artifact.name, artifact.id, artifact.card
            scenarios = [scenario_of(recipe, card) for recipe in recipes]
            degrees, refused = divided(asked, card)
            networks = [trace(artifact, workload, storage, place, say_who_holds(), each.rewrites) for each in scenarios]
    found = [
        (str(recipe), network, project(network, device, scenario.precision, scenario.execution))
        for recipe, scenario, network in zip(recipes, scenarios, networks, strict=True) for device in devices
    ]  # fmt: skip
    if degrees == [Degrees()]:
        data = [as_data(text, projection, network) for text, network, projection in found]
        table = _table([(text, projection) for text, _, projection in found])
    else:
        spreads = [
            (text, network, spread(network, single, each, link or single.device.link or single.device.host_link, measured=options.measured_ms / 1e3))
            for text, network, single in found for each in degrees
        ]  # fmt: skip
        data = [spread_as_data(text, each, network) for text, network, each in spreads]
        table = _spread_table([(text, each) for text, _, each in spreads])
    table = "\n".join([table, *refused])
    shown = {"model": name, "artifact": artifact_id, "provenance": "projected", "projections": data, "refused": refused}
    show(shown, table, options.json)
    return 0


def degrees_of(options: argparse.Namespace) -> list[Degrees]:
    """Every combination of the degrees asked for. Raises InvalidInput."""
    try:
        asked = [[int(word) for word in str(getattr(options, name)).split(",")] for name in ("tensor", "pipeline", "replicas")]
    except ValueError:
        raise InvalidInput("Degrees are whole numbers with commas between them.", mend="For example --tensor 1,2,4,8.") from None
    return [Degrees(tensor=t, pipeline=p, replicas=r) for t, p, r in product(*asked)]


def divided(asked: Sequence[Degrees], card: ModelCard) -> tuple[list[Degrees], list[str]]:
    """Those whose heads divide, and a line for each tensor degree that is left out. Raises InvalidInput when none is left."""
    able = degrees_for(card, attention=True)
    left = [each for each in asked if each.tensor == 1 or not card.num_heads or each.tensor in able]
    others = sorted({each.tensor for each in asked} - {each.tensor for each in left})
    heads = f"{card.num_heads} heads and {card.num_kv_heads or card.num_heads} key-value heads"
    mend = f"Choose {' or '.join(map(str, able[:6])) or 'a pipeline or replicas'}."
    if not left:
        raise InvalidInput(f"{heads} do not divide by {others[0]}.", mend=mend, where="tensor")
    return left, [f"tensor={degree} is left out: {heads} do not divide by it. {mend}" for degree in others]


def _published(name: str, workload: Workload, scenario: Scenario) -> Network:
    if scenario.rewrites:
        raise InvalidInput(f"{name} is known by its shape alone, which {scenario.rewrites} cannot rewrite.", mend="Project a model's files.")
    return network(
        name, batch=workload.batch_size, sequence=workload.sequence_length, new_tokens=workload.new_tokens,
        image_size=workload.image_size or 224,
    )  # fmt: skip


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
        "arithmetic": projection.arithmetic, "latency_ms": projection.latency * 1e3, "latency_band_ms": [projection.low * 1e3, projection.high * 1e3],
        "time_to_first_token_ms": None if first is None else first * 1e3,
        "time_per_output_token_ms": None if step is None else step * 1e3,
        "throughput_per_s": projection.throughput, "fits": projection.fits,
        "memory_bytes": {
            "weights": projection.memory.weights, "kv_cache": projection.memory.cache,
            "activations": projection.memory.activations, "reserved": projection.memory.reserved,
            "total": projection.memory.total, "device": projection.device.memory_bytes,
        },
        "energy_j_per_item": [projection.joules_low / projection.items, projection.joules_high / projection.items],
        "bound": str(projection.bound), "parameters": network.parameters, "batch": network.batch, "sequence": network.sequence, "new_tokens": network.steps + 1 if network.steps else 0,
        "fitted": list(projection.efficiency.fitted),
    }  # fmt: skip


def spread_as_data(recipe: str, spread: Spread, network: Network) -> dict[str, Any]:
    """Plain data of a projection over several devices; latencies in ms, memory in bytes of one device."""
    first, step = spread.first_token, spread.per_token
    return {
        "recipe": recipe, "device": spread.single.device.id, "provenance": "projected", "precision": spread.single.precision.name,
        "tensor": spread.degrees.tensor, "pipeline": spread.degrees.pipeline, "replicas": spread.degrees.replicas,
        "devices": spread.degrees.devices, "link": spread.link.id, "link_source": spread.link.source,
        "latency_ms": spread.latency * 1e3, "latency_band_ms": [spread.low * 1e3, spread.high * 1e3],
        "time_to_first_token_ms": None if first is None else first * 1e3,
        "time_per_output_token_ms": None if step is None else step * 1e3,
        "throughput_per_s": spread.throughput, "speedup": spread.speedup, "efficiency": spread.efficiency,
        "communication_share": spread.communication, "memory_bytes": spread.memory.total, "fits": spread.fits,
        "batch": network.batch, "sequence": network.sequence, "new_tokens": network.steps + 1 if network.steps else 0,
    }  # fmt: skip


def _spread_table(found: list[tuple[str, Spread]]) -> str:
    lines = [
        f"{'projected on':32} {'tensor':>6} {'pipeline':>8} {'replicas':>8} {'latency, ms':>12} {'band':>19} {'items/s':>10} {'speedup':>8} "
        f"{'on links':>8} {'GB each':>8} {'products in':>11}  recipe"
    ]
    for recipe, s in found:
        band = f"{_figure(s.low * 1e3)} to {_figure(s.high * 1e3)}"
        lines.append(
            f"{s.single.device.name:32} {s.degrees.tensor:6} {s.degrees.pipeline:8} {s.degrees.replicas:8} {_figure(s.latency * 1e3):>12} {band:>19} "
            f"{_figure(s.throughput):>10} {s.speedup:8.2f} {s.communication:8.0%} {s.memory.total / 1e9:8.2f} {s.single.arithmetic:>11}"
            f"  {recipe or 'as uploaded'}"
            + "  OUT OF MEMORY" * (not s.fits)
        )
    return "\n".join([*lines, f"Links: {', '.join(sorted({s.link.name for _, s in found}))}. Throughput: calls that follow each other without end."])


def _figure(value: float) -> str:
    """Three significant digits, and all those before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _table(found: list[tuple[str, Projection]]) -> str:
    lines = [f"{'projected on':32} {'latency, ms':>12} {'band':>19} {'items/s':>10} {'memory, GB':>11} {'bound by':>9} {'products in':>11}  recipe"]
    for recipe, p in found:
        fits = "" if p.fits else "  OUT OF MEMORY"
        band = f"{_figure(p.low * 1e3)} to {_figure(p.high * 1e3)}"
        lines.append(
            f"{p.device.name:32} {_figure(p.latency * 1e3):>12} {band:>19} {_figure(p.throughput):>10} {p.memory.total / 1e9:11.2f} {p.bound:>9} {p.arithmetic:>11}"
            f"  {recipe or 'as uploaded'}{fits}"
        )
    return "\n".join([*lines, *(shortage(p) for _, p in found if not p.fits)])
