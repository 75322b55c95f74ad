"""One contestant in a process of its own, in whatever environment its tool is installed.

    python stage.py TOOL VARIANT FAMILY_DIRECTORY SCRATCH_DIRECTORY

Needs numpy and the tool, nothing of this project (but the tool `speedrail`). After
`{"ready": seconds, "size_bytes": …, "versions": {…}}` it obeys lines on standard input: `round SECONDS`
times calls and prints `{"wall": [ms, …], "processor": [ms, …]}`; `answers FILE` answers the scored inputs
into an .npz. A sample is a call; of a causal LM, the mean time of a token after the first.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Family:
    """What is run: read from `family.json` and the .npz files beside it."""

    directory: Path
    task: str
    model: Path
    """A Hugging Face directory in fp32."""
    gguf: str
    threads: int
    new_tokens: int
    outputs: list[str]

    def timed(self) -> dict[str, Array]:
        return load(self.directory / "timed.npz")

    def batches(self, part: str) -> list[dict[str, Array]]:
        """`scored` or `calibration`: a list of inputs of the timed shape."""
        stacked = load(self.directory / f"{part}.npz")
        count = len(next(iter(stacked.values())))
        return [{name: array[i] for name, array in stacked.items()} for i in range(count)]


class Contestant(Protocol):
    """What a tool prepares; its module names the distributions it is made of in `PACKAGES`."""

    size_bytes: int
    """Of the file it is kept in, or of its tensors where it keeps none."""

    def infer(self, batch: dict[str, Array]) -> Array:
        """The first output: hidden states or logits, float."""
        ...

    def generate(self, ids: Array, new_tokens: int) -> list[Instant]:
        """Greedy; when each token was there."""
        ...


@dataclass(frozen=True)
class Instant:
    """A moment by the wall's clock and by the process's own, in seconds."""

    wall: float
    processor: float

    def since(self, other: Instant) -> dict[str, float]:
        """In ms."""
        return {"wall": 1e3 * (self.wall - other.wall), "processor": 1e3 * (self.processor - other.processor)}


def now() -> Instant:
    return Instant(perf_counter(), process_time())


def load(file: Path) -> dict[str, Array]:
    with np.load(file) as stored:
        return {name: stored[name] for name in stored.files}


def main() -> None:
    tool, variant, directory, scratch = sys.argv[1:]
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # tools that print do not disturb the channel
    about = json.loads((Path(directory) / "family.json").read_text())
    family = Family(Path(directory), about["task"], Path(about["model"]), about["gguf"], about["threads"], about["new_tokens"], about["outputs"])
    sys.path.insert(0, str(Path(__file__).parent))
    began = perf_counter()
    try:
        module = importlib.import_module(f"tools.{tool}")
        contestant: Contestant = module.prepare(family, variant, Path(scratch))
        timed = family.timed()
        call(contestant, family, timed)
    except Exception as error:  # the whole benchmark must not end because one tool cannot
        channel.write(json.dumps({"failed": f"{type(error).__name__}: {error}"[:600]}) + "\n")
        raise
    versions = {name: metadata.version(name) for name in module.PACKAGES}
    ready = {"ready": round(perf_counter() - began, 1), "size_bytes": contestant.size_bytes, "versions": versions}
    channel.write(json.dumps(ready) + "\n")
    gc.collect()
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "round":
            found = list(samples(contestant, family, timed, float(rest)))
            channel.write(json.dumps({clock: [sample[clock] for sample in found] for clock in found[0]}) + "\n")
        elif word == "answers":
            np.savez(rest, **answers(contestant, family))
            channel.write(json.dumps({"answered": rest}) + "\n")


def samples(contestant: Contestant, family: Family, timed: dict[str, Array], seconds: float) -> Iterator[dict[str, float]]:
    """At least three calls and `seconds` of them."""
    began, count = perf_counter(), 0
    while count < 3 or perf_counter() - began < seconds:
        yield call(contestant, family, timed)
        count += 1


def call(contestant: Contestant, family: Family, timed: dict[str, Array]) -> dict[str, float]:
    """One sample, ms by each clock."""
    if family.task == "causal_lm":
        tokens = contestant.generate(timed["input_ids"], family.new_tokens)
        return {clock: total / (len(tokens) - 1) for clock, total in tokens[-1].since(tokens[0]).items()}
    began = now()
    contestant.infer(timed)
    return now().since(began)


def answers(contestant: Contestant, family: Family) -> dict[str, Array]:
    """Outputs of all scored batches; a causal LM's reduced to `nll` and greedy `next` of each position."""
    found = [np.asarray(contestant.infer(batch), np.float32) for batch in family.batches("scored")]
    if family.task != "causal_lm":
        return {"outputs": np.stack(found)}
    reduced = [reduce(logits[0], batch["input_ids"][0]) for logits, batch in zip(found, family.batches("scored"), strict=True)]
    return {"nll": np.stack([nll for nll, _ in reduced]), "next": np.stack([greedy for _, greedy in reduced])}


def reduce(logits: Array, ids: Array) -> tuple[Array, Array]:
    scores = logits[:-1]
    highest = scores.max(axis=1, keepdims=True)
    total = np.log(np.exp(scores - highest).sum(axis=1)) + highest[:, 0]
    return total - np.take_along_axis(scores, ids[1:, None], axis=1)[:, 0], scores.argmax(axis=1).astype(np.int32)


if __name__ == "__main__":
    main()
