"""A placement as data: what was built for a network, what it takes, how long each layer is. Torch-free JSON."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.domain.codec import decode, encode
from engine.fpga.estimate import Bound, Estimate, Layer, Pass, Place, estimate
from engine.fpga.search import Found, machine_of

FILE = "placement.json"
MODEL_ERROR = 0.25
"""Relative error that the model of the DPU keeps on networks it was not fitted to (docs/fpga.md)."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """What ran on the RTL; all 0 with a `note` that says why nothing did."""

    products: int = 0
    of: int = 0
    macs: int = 0
    cycles: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One layer of a pass. Seconds and bytes are of all its executions together."""

    name: str
    kind: str
    place: str
    bound: str
    seconds: float
    cycles: int
    macs: int
    utilisation: float
    bytes: float
    gemm: str = ""
    """`128 × 384 × 1536`, with the number of products where there are several."""

    @staticmethod
    def of(layer: Layer) -> LayerRow:
        return LayerRow(
            name=layer.name, kind=layer.kind, place=str(layer.place), bound=str(layer.bound), seconds=layer.seconds,
            cycles=layer.cycles, macs=layer.macs, utilisation=layer.utilisation, bytes=layer.memory_bytes, gemm=_gemm(layer),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRow:
    """One pass: a call, a prompt or a step of decoding. `waits` says in seconds what is waited for; they add up."""

    title: str
    times: int
    seconds: float
    transfer_seconds: float
    utilisation: float
    bound: str
    waits: dict[str, float]
    layers: tuple[LayerRow, ...]

    @staticmethod
    def of(title: str, times: int, one: Pass) -> PassRow:
        return PassRow(
            title=title, times=times, seconds=one.seconds, transfer_seconds=one.transfer_seconds + one.call_seconds,
            utilisation=one.utilisation, bound=str(one.bound), waits={str(b): one.seconds_bound_by(b) for b in Bound},
            layers=tuple(LayerRow.of(layer) for layer in one.layers),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """Everything that is reported of a placement. Seconds, bytes, joules, Hz."""

    network: str
    batch: int
    board: str
    title: str
    precision: str
    width: int
    """Bits of the core's operands."""
    size: int
    cores: int
    buffer_bytes: int
    clock_hz: float
    clock_range_hz: tuple[float, float]
    clock_status: str
    seconds: float
    band: tuple[float, float]
    """Of `seconds`: the clock's range and the model's error, whichever is wider."""
    items_per_second: float
    joules: tuple[float, float]
    bound: str
    peak_macs_per_second: float
    memory_bytes_per_second: float
    passes: tuple[PassRow, ...]
    resources: dict[str, tuple[float, float]]
    """Name to (taken, there)."""
    resources_source: str
    tried: int
    assumed: tuple[str, ...]
    """Figures of the board that are nobody's measurement."""
    host_work: dict[str, int] = field(default_factory=dict)
    """Function that the host does in fp32, to elements it makes in one pass."""
    scaled_by_row: int = 0
    """Linear layers whose rows have scales of their own, as calibration found worthwhile."""
    sampled: Sampled = Sampled()
    executed: bool = False

    @staticmethod
    def of(found: Found, host_work: dict[str, int] | None = None, sampled: Sampled = Sampled(), executed: bool = False) -> PlanFile:
        """The report of a design that was found."""
        board, design, made = found.board, found.design, found.estimate
        clock = found.clock
        return PlanFile(
            network=made.network.name, batch=made.network.batch, board=board.id, title=board.title,
            precision=str(design.precision), width=design.precision.width, size=design.size, cores=design.cores, buffer_bytes=design.buffer_bytes,
            clock_hz=design.clock_hz, clock_range_hz=(clock.low, clock.high), clock_status=clock.status,
            seconds=made.seconds, band=_band(found), items_per_second=made.throughput, joules=found.joules,
            bound=str(made.bound), peak_macs_per_second=design.macs_per_cycle * design.clock_hz,
            memory_bytes_per_second=board.memory_gb_per_s.value * 1e9, passes=_passes(made),
            resources=_resources(found), resources_source=found.resources.source, tried=found.tried,
            assumed=tuple(name for name, figure in board.figures().items() if figure.status == "assumed"),
            host_work=host_work or {}, scaled_by_row=len(found.scaled or ()), sampled=sampled, executed=executed,
        )  # fmt: skip

    @property
    def first(self) -> PassRow:
        return self.passes[0]

    @property
    def decode(self) -> PassRow | None:
        return self.passes[1] if len(self.passes) > 1 else None

    def facts(self) -> dict[str, float | int | str | bool]:
        """Flat, for the run's page."""
        facts: dict[str, float | int | str | bool] = {
            "board": self.title, "array": f"{self.cores} × {self.size} × {self.size}", "precision": self.precision,
            "clock_mhz": self.clock_hz / 1e6, "buffer_bytes": self.buffer_bytes, "designs_that_fit": self.tried,
            "bound_by": self.bound, "utilisation": round(self.first.utilisation, 4),
            "energy_of_a_call": energy_words(self.joules),
        }  # fmt: skip
        if self.executed:
            facts["products_on_the_rtl"] = f"{self.sampled.products} of {self.sampled.of}"
            facts["products_simulated_cycles"] = self.sampled.cycles
            facts["products_scaled_by_row"] = f"{self.scaled_by_row} of {self.sampled.of}"
            host = sorted(self.host_work.items(), key=lambda item: -item[1])[:8]
            facts["done_by_the_host_in_fp32"] = ", ".join(f"{name} ({count:,})" for name, count in host)
        return facts

    def remarks(self) -> tuple[str, ...]:
        """Sentences for a person."""
        words = [f"Bound by {_WAITED[self.bound]}."]
        if self.decode is not None:
            words.append(f"Each token of the answer is bound by {_WAITED[self.decode.bound]}.")
        if self.sampled.note:
            words.append(self.sampled.note)
        elif self.executed:
            share = self.sampled.macs / max(sum(layer.macs for layer in self.first.layers), 1)
            words.append(
                f"A sample of all {self.sampled.of} products with weights ({_percent(share)} of the multiplications) ran on the RTL "
                f"with an array of 4: every bit and every one of {self.sampled.cycles:,} cycles as computed."
            )
        return tuple(words)


_WAITED = {"compute": "the array's arithmetic", "memory": "the board's memory", "host": "what the host does in fp32 and the way there"}


def write_plan(plan: PlanFile, directory: Path) -> None:
    (directory / FILE).write_text(encode(plan))


def read_plan(directory: Path) -> PlanFile:
    """Raises InvalidInput when the file is not one of ours."""
    return decode(PlanFile, (directory / FILE).read_text())


def energy_words(joules: tuple[float, float]) -> str:
    """`20 to 60 mJ`: a range, and no more digits than it deserves."""
    low, high = joules
    unit, factor = ("J", 1.0) if high >= 1 else ("mJ", 1e3)
    return f"{_rounded(low * factor)} to {_rounded(high * factor)} {unit}"


def _rounded(value: float) -> str:
    return f"{float(f'{value:.1g}'):g}" if value < 10 else f"{float(f'{value:.2g}'):g}"


def _percent(share: float) -> str:
    return f"{share:.2g}" if share == 0 else f"{share * 100:.2g} %"


def _band(found: Found) -> tuple[float, float]:
    seconds = found.estimate.seconds
    by_clock = [_at(found, hertz).seconds for hertz in (found.clock.high, found.clock.low)]
    return min(by_clock[0], seconds * (1 - MODEL_ERROR)), max(by_clock[1], seconds * (1 + MODEL_ERROR))


def _at(found: Found, clock_hz: float) -> Estimate:
    return estimate(found.estimate.network, machine_of(found.board, replace(found.design, clock_hz=clock_hz), found.scaled))


def _passes(made: Estimate) -> tuple[PassRow, ...]:
    if made.decode is None:
        return (PassRow.of("One call", 1, made.forward),)
    return PassRow.of("Prompt", 1, made.forward), PassRow.of("One token", made.network.steps, made.decode)


def _resources(found: Found) -> dict[str, tuple[float, float]]:
    taken: dict[str, Any] = {
        "lut": found.resources.lut, "ff": found.resources.ff, "dsp": found.resources.dsp, "ram_kbit": found.resources.ram_kbit,
    }  # fmt: skip
    return {name: (float(value), found.resources.limits[name]) for name, value in taken.items()}


def _gemm(layer: Layer) -> str:
    if layer.gemm is None or layer.place is not Place.ARRAY:
        return ""
    times = layer.gemm.groups * layer.count
    return f"{layer.gemm.m} × {layer.gemm.k} × {layer.gemm.n}" + (f", {times} times" if times > 1 else "")
