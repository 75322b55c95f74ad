"""Our best guarded recipe against tools run by hand: same model, data and host, one interleaved benchmark.

    python -m benchmarks.peers [--only minilm resnet18 smollm2] [--threads 1] [--rounds 6] [--peers PYTHON]

Each contestant lives in a process of its own; they take turns, the order reversed every
other round. `--peers` is the interpreter of an environment that holds the tools whose pins
clash with ours (see docs/peers.md). Writes results/peers_<family>.json and prints the table.
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


@dataclass(frozen=True, slots=True)
class Entry:
    """A tool and what of it; `elsewhere`: in the peers' environment."""

    tool: str
    variant: str
    elsewhere: bool = False

    @property
    def title(self) -> str:
        return f"{self.tool} {self.variant}".strip()


EAGER = Entry("eager", "fp32")
ENTRIES: dict[str, tuple[Entry, ...]] = {
    "minilm": (
        Entry("speedrail", "quantization(format=int8)@onnxruntime"), Entry("openvino_nncf", "int8"), Entry("openvino_nncf", "int8_weights"),
        Entry("onnxruntime_quantizer", "dynamic"), Entry("torchao_quantizer", "int8_weights"),
        Entry("olive", "dynamic", True), Entry("neural_compressor_torch", "static", True),
    ),
    "resnet18": (
        Entry("speedrail", "quantization(format=int8)@openvino"), Entry("openvino_nncf", "int8"), Entry("onnxruntime_quantizer", "static"),
        Entry("torchao_quantizer", "int8_weights"), Entry("olive", "dynamic", True), Entry("neural_compressor_torch", "static", True),
    ),
    "smollm2": (
        Entry("speedrail", "quantization(format=int8)@onnxruntime"), Entry("openvino_nncf", "int8", True),
        Entry("openvino_nncf", "int4_asym_g64", True), Entry("torchao_quantizer", "int8_weights"),
        Entry("olive", "builder_int4", True), Entry("neural_compressor_torch", "rtn_int4", True), Entry("llama_cpp", "", True),
    ),
}  # fmt: skip
"""Ours first."""


class Process:
    """A contestant that is open, or the reason why it is not."""

    def __init__(self, entry: Entry, interpreter: str, family: Path, scratch: Path, log: Path) -> None:
        scratch.mkdir(parents=True)
        self.entry, self.rounds, self.problem = entry, list[list[float]](), ""
        command = [interpreter, "-W", "ignore", str(STAGE), entry.tool, entry.variant, str(family), str(scratch)]
        threads = json.loads((family / "family.json").read_text())["threads"]
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("w"), text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        first = self._read()
        self.problem = first.get("failed", "")

    def _read(self) -> dict[str, Any]:
        assert self.child.stdout
        line = self.child.stdout.readline()
        return json.loads(line) if line else {"failed": f"ended with {self.child.wait()}"}  # type: ignore[no-any-return]

    def ask(self, text: str) -> dict[str, Any]:
        assert self.child.stdin
        self.child.stdin.write(text + "\n")
        self.child.stdin.flush()
        return self._read()

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
    parser.add_argument("--peers", default="", help="interpreter of the peers' environment; empty leaves those out")
    parser.add_argument("--ours", action="append", default=[], help="another recipe of ours")
    parser.add_argument("--inputs", type=Path, help="keep the inputs here for the next time")
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
    entries = (EAGER, *(Entry("speedrail", recipe) for recipe in options.ours), *ENTRIES[name])
    processes = []
    for place, entry in enumerate(entries):
        if entry.elsewhere and not options.peers:
            continue
        interpreter = options.peers if entry.elsewhere else sys.executable
        processes.append(Process(entry, interpreter, family, scratch / f"work{place}", scratch / f"{place}.log"))
        print(f"{entry.title}: {processes[-1].problem or 'ready'}", file=sys.stderr, flush=True)
    able = [process for process in processes if not process.problem]
    for turn in range(options.rounds):
        for process in able if turn % 2 == 0 else reversed(able):
            process.rounds.append(process.ask(f"round {options.seconds}")["samples"])
    reference: dict[str, Any] = {}
    rows = []
    for place, process in enumerate(processes):
        row: dict[str, Any] = {"tool": process.entry.tool, "variant": process.entry.variant, "problem": process.problem}
        if not process.problem:
            process.ask(f"answers {scratch / f'{place}.npz'}")
            with np.load(scratch / f"{place}.npz") as stored:
                answers = scored_answers(card, batches, dict(stored))
            reference = reference or answers
            quality = {m.name: m.median for m in task_of(card).score(reference, answers, labels)}
            row |= {"rounds": process.rounds, "quality": quality, **speed(able[0].rounds, process.rounds)}
        rows.append(row)
        process.close()
    return {"family": name, "threads": options.threads, "environment": as_data(environment(options.threads, "none")), "rows": rows}


def speed(baseline: list[list[float]], own: list[list[float]]) -> dict[str, Any]:
    """Median ms, and the speedup from the rounds' paired ratios with its 95 % interval."""
    ratios = [float(np.median(b) / np.median(o)) for b, o in zip(baseline, own, strict=True)]
    low, high = np.quantile([np.median(np.random.default_rng(i).choice(ratios, len(ratios))) for i in range(1000)], [0.025, 0.975])
    return {"ms": float(np.median(np.concatenate(own))), "speedup": float(np.median(ratios)), "ci95": [float(low), float(high)]}


def table(result: dict[str, Any]) -> str:
    lines = [f"\n### {result['family']}\n", "| tool | variant | speedup (95 %) | quality | ms |", "|---|---|--:|--:|--:|"]
    for row in sorted(result["rows"], key=lambda row: -row.get("speedup", 0)):
        if row["problem"]:
            lines.append(f"| {row['tool']} | `{row['variant']}` | failed: {row['problem'][:90]} | | |")
        else:
            low, high = row["ci95"]
            lines.append(
                f"| {row['tool']} | `{row['variant']}` | {row['speedup']:.2f} ({low:.2f} to {high:.2f}) "
                f"| {row['quality']['quality']:.4f} | {row['ms']:.3g} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
