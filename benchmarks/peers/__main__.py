"""Our best guarded recipe against tools run by hand: same model, data and host, one interleaved benchmark.

    python -m benchmarks.peers [--only minilm resnet18 smollm2] [--rounds 6] [--peers PYTHON] [--optimum PYTHON]

Each contestant lives in a process of its own; they take turns, the order reversed every
other round. `--peers` and `--optimum` are interpreters of environments whose pins clash with ours
and with each other's (docs/peers.md says how to make them). A sample is timed by the wall
and by the process's own time; `--clock` says which of the two the speedups are taken of.
Writes results/peers_<family>.json and prints the table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import RESULTS
from benchmarks.peers.inputs import scored_answers, write_inputs
from engine.domain.codec import as_data
from engine.host import environment
from engine.tasks.registry import task_of

STAGE = Path(__file__).with_name("stage.py")
HOMES = ("peers", "optimum")
CLOCKS = ("wall", "processor")
OURS = "speedrail"


@dataclass(frozen=True, slots=True)
class Entry:
    """A tool and what of it; `home` names the environment that holds it, empty where it is ours."""

    tool: str
    variant: str
    home: str = ""

    @property
    def title(self) -> str:
        return f"{self.tool} {self.variant}".strip()


EAGER = Entry("eager", "fp32")
ENTRIES: dict[str, tuple[Entry, ...]] = {
    "minilm": (
        Entry(OURS, "quantization(format=int8)@openvino"), Entry("openvino_nncf", "int8"), Entry("openvino_nncf", "int8_weights"),
        Entry("openvino_nncf", "bf16"), Entry("onnxruntime_quantizer", "dynamic"), Entry("torchao_quantizer", "int8_dynamic"),
        Entry("olive", "dynamic", "peers"), Entry("neural_compressor_torch", "static", "peers"),
    ),
    "resnet18": (
        Entry(OURS, "quantization(format=int8)@openvino"), Entry(OURS, "quantization(format=int8)@onnxruntime"),
        Entry("openvino_nncf", "int8"), Entry("openvino_nncf", "bf16"), Entry("onnxruntime_quantizer", "static"), Entry("torchao_quantizer", "int8_weights"), Entry("olive", "static", "peers"),
        Entry("neural_compressor_torch", "static", "peers"),
    ),
    "smollm2": (
        Entry(OURS, "quantization(format=int4)@onnxruntime"), Entry(OURS, "quantization(format=int4, shortlist=256)@onnxruntime"),
        Entry(OURS, "quantization(format=int8)@openvino"),
        Entry("openvino_nncf", "int8", "optimum"), Entry("openvino_nncf", "int4_asym_g64", "optimum"), Entry("torchao_quantizer", "int8_weights"),
        Entry("olive", "builder_int4", "peers"), Entry("neural_compressor_torch", "rtn_int4", "peers"), Entry("llama_cpp", "Q4_1", "peers"),
    ),
}  # fmt: skip
"""Ours first: the best guarded recipes of benchmarks/README.md."""


class Process:
    """A contestant that is open, or the reason why it is not."""

    def __init__(self, entry: Entry, interpreter: str, family: Path, scratch: Path, log: Path) -> None:
        scratch.mkdir(parents=True)
        self.entry, self.rounds = entry, list[dict[str, float]]()
        command = [interpreter, "-W", "ignore", str(STAGE), entry.tool, entry.variant, str(family), str(scratch)]
        threads = json.loads((family / "family.json").read_text())["threads"]
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("w"), text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        self.about = self._read()
        self.problem = str(self.about.get("failed", ""))

    def _read(self) -> dict[str, Any]:
        assert self.child.stdout
        line = self.child.stdout.readline()
        return json.loads(line) if line else {"failed": f"ended with {self.child.wait()}"}  # type: ignore[no-any-return]

    def ask(self, text: str) -> dict[str, Any]:
        assert self.child.stdin
        self.child.stdin.write(text + "\n")
        self.child.stdin.flush()
        return self._read()

    def play(self, seconds: float) -> None:
        """One round: its number of calls and the median of each clock, ms."""
        samples = self.ask(f"round {seconds}")
        self.rounds.append({"calls": len(samples["wall"])} | {clock: float(np.median(samples[clock])) for clock in CLOCKS})

    def close(self) -> None:
        if self.child.stdin:
            self.child.stdin.close()
        self.child.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(ENTRIES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="what speedups are taken of; processor where others share the machine")
    for home in HOMES:
        parser.add_argument(f"--{home}", default="", help=f"interpreter of the environment {home}; empty leaves its tools out")
    parser.add_argument("--ours", action="append", default=[], help="another recipe of ours")
    parser.add_argument("--tools", nargs="*", default=[], help="only these tools, beside eager")
    parser.add_argument("--inputs", type=Path, help="keep the inputs and the tools' logs here for the next time")
    options = parser.parse_args()
    for name in options.only:
        with tempfile.TemporaryDirectory() as scratch:
            result = compete(name, options, Path(scratch))
        (RESULTS / f"peers_{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(table(result), flush=True)


def compete(name: str, options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Open one after another, take turns, answer, score against eager fp32."""
    family = (options.inputs or scratch) / name
    card, batches, labels = write_inputs(name, family, options.threads)
    homes = {"": sys.executable} | {home: getattr(options, home) for home in HOMES}
    wanted = (*(Entry(OURS, recipe) for recipe in options.ours), *ENTRIES[name])
    chosen = [e for e in wanted if homes[e.home] and (not options.tools or e.tool in options.tools)]
    entries = [EAGER, *chosen]
    processes = list[Process]()
    for place, entry in enumerate(entries):
        processes.append(Process(entry, homes[entry.home], family, scratch / f"work{place}", family / f"{entry.tool}_{place}.log"))
        print(f"{entry.title}: {processes[-1].problem or 'ready'}", file=sys.stderr, flush=True)
    able = [process for process in processes if not process.problem]
    for turn in range(options.rounds):
        for process in able if turn % 2 == 0 else reversed(able):
            process.play(options.seconds)
    reference: dict[str, Any] = {}
    rows: list[dict[str, Any]] = [
        {"tool": e.tool, "variant": e.variant, "home": e.home, "failed": "left out of this run"} for e in wanted if e not in chosen
    ]
    for place, process in enumerate(processes):
        row = {"tool": process.entry.tool, "variant": process.entry.variant, "home": process.entry.home, **process.about}
        if not process.problem:
            process.ask(f"answers {scratch / f'{place}.npz'}")
            with np.load(scratch / f"{place}.npz") as stored:
                answers = scored_answers(card, batches, dict(stored))
            reference = reference or answers
            quality = {m.name: m.median for m in task_of(card).score(reference, answers, labels)}
            row |= {"rounds": process.rounds, "quality": quality, **speed(able[0].rounds, process.rounds, options.clock)}
        rows.append(row)
        process.close()
    return {
        "family": name, "threads": options.threads, "clock": options.clock, "environment": as_data(environment(options.threads, "none")), "rows": rows,
    }  # fmt: skip


def speed(baseline: list[dict[str, float]], own: list[dict[str, float]], clock: str) -> dict[str, Any]:
    """Median ms by both clocks, and the speedup from the rounds' paired ratios with its 95 % interval."""
    ratios = [b[clock] / o[clock] for b, o in zip(baseline, own, strict=True)]
    low, high = np.quantile([np.median(np.random.default_rng(i).choice(ratios, len(ratios))) for i in range(1000)], [0.025, 0.975])
    medians = {f"{name}_ms": float(np.median([turn[name] for turn in own])) for name in CLOCKS}
    return {**medians, "speedup": float(np.median(ratios)), "ci95": [float(low), float(high)]}


def table(result: dict[str, Any]) -> str:
    lines = [
        f"\n### {result['family']}\n", "| tool | variant | speedup (95 %) | ÷ the best other | quality | ms (wall) | MB |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    played = sorted((row for row in result["rows"] if "failed" not in row), key=lambda row: -float(row["speedup"]))
    for row in played:
        best = max((other["speedup"] for other in played if (other["tool"] == OURS) != (row["tool"] == OURS)), default=1.0)
        low, high = row["ci95"]
        lines.append(
            f"| {row['tool']} | `{row['variant']}` | {row['speedup']:.2f} ({low:.2f} to {high:.2f}) | {row['speedup'] / best:.2f} "
            f"| {row['quality']['quality']:.4f} | {row['wall_ms']:.3g} | {row['size_bytes'] / 1e6:.1f} |"
        )
    lines += [f"| {row['tool']} | `{row['variant']}` | failed: {row['failed'][:90]} | | | | |" for row in result["rows"] if "failed" in row]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
