"""One contestant in a process of its own, in whatever environment its tool is installed.

    python stage.py TOOL VARIANT FAMILY_DIRECTORY SCRATCH_DIRECTORY

Needs numpy and the tool, nothing of this project (but the tool `speedrail`). After
`{"ready": seconds}` it obeys lines on standard input: `round SECONDS` times calls and
prints `{"samples": [ms, …]}`; `answers FILE` answers the scored inputs into an .npz. A
sample is a call; of a causal LM, the mean time of a token after the first.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
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
    """What a tool prepares."""

    def infer(self, batch: dict[str, Array]) -> Array:
        """The first output: hidden states or logits, float."""
        ...

    def generate(self, ids: Array, new_tokens: int) -> list[float]:
        """Greedy; seconds from the call to each token."""
        ...


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
    began = time.perf_counter()
    try:
        contestant: Contestant = importlib.import_module(f"tools.{tool}").prepare(family, variant, Path(scratch))
        timed = family.timed()
        call(contestant, family, timed)
    except Exception as error:  # the whole benchmark must not end because one tool cannot
        channel.write(json.dumps({"failed": f"{type(error).__name__}: {error}"[:600]}) + "\n")
        raise
    channel.write(json.dumps({"ready": time.perf_counter() - began}) + "\n")
    gc.collect()
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "round":
            channel.write(json.dumps({"samples": list(samples(contestant, family, timed, float(rest)))}) + "\n")
        elif word == "answers":
            np.savez(rest, **answers(contestant, family))
            channel.write(json.dumps({"answered": rest}) + "\n")


def samples(contestant: Contestant, family: Family, timed: dict[str, Array], seconds: float) -> Iterator[float]:
    """At least three calls and `seconds` of them, in ms."""
    began, count = time.perf_counter(), 0
    while count < 3 or time.perf_counter() - began < seconds:
        yield call(contestant, family, timed)
        count += 1


def call(contestant: Contestant, family: Family, timed: dict[str, Array]) -> float:
    if family.task == "causal_lm":
        times = contestant.generate(timed["input_ids"], family.new_tokens)
        return 1e3 * (times[-1] - times[0]) / (len(times) - 1)
    began = time.perf_counter()
    contestant.infer(timed)
    return 1e3 * (time.perf_counter() - began)


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
