"""The rank program under torchrun, for hosts that have a launcher of their own (SLURM, a shell loop).

On each host:

    torchrun --nnodes=2 --node-rank=N --nproc-per-node=1 --master-addr=FIRST --master-port=29500 \\
        -m engine.executors.spread.launched MODEL --recipe 'model_parallelism(kind=tensor, degree=2)'

Every host has the same model; each carries out the recipe for itself. The rank that has a recipe's
outputs holds them against one process and prints what it measured as one line of JSON.
There is no sandbox here: give it models you trust.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch.distributed as dist

from engine.domain.artifact import TaskId
from engine.domain.errors import SpeedrailError, StageError
from engine.domain.layout import Cut
from engine.domain.ports import Batch, Executor
from engine.domain.workload import Workload
from engine.executors.opening import open_alone
from engine.executors.spread.part import Part, Place, meet, open_part
from engine.executors.spread.proof import TOLERANCE, batch_for
from engine.host import PACKAGE, code, network_device, this_host
from engine.intake.identity import artifact_id
from engine.intake.inspection import inspect
from engine.pipeline import transform
from engine.requests import OpenRequest, TransformRequest
from engine.sandbox.namespaces import die_with_parent
from engine.tasks.registry import task_of


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    die_with_parent()
    if "GLOO_SOCKET_IFNAME" not in os.environ and (device := _device_towards(os.environ["MASTER_ADDR"])):
        os.environ["GLOO_SOCKET_IFNAME"] = device
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        meet(Place(rank, ranks), options.timeout)
        _agree(code(), f"another version of Speedrail in {PACKAGE}")
        _agree(*_model(Path(options.model)))
        for recipe in options.recipe:
            with tempfile.TemporaryDirectory(prefix="speedrail-rank-") as scratch:
                found = _run(options, recipe, Place(rank, ranks), Path(scratch))
            if found:
                print(json.dumps({"recipe": recipe, **found}), flush=True)
    except (SpeedrailError, RuntimeError) as error:
        print(f"speedrail: rank {rank} on {socket.gethostname()}: {_cause(error, options.timeout)}", file=sys.stderr, flush=True)
        # other threads may wait for ever in a collective
        os._exit(1)
    return 0


def _run(options: argparse.Namespace, recipe: str, place: Place, scratch: Path) -> dict[str, Any] | None:
    directory = Path(options.model)
    request = _request(options, recipe, place.ranks, scratch)
    layout = request.lowered.layout
    if layout.workers != place.ranks or (layout.cut is not Cut.NONE and layout.replicas > 1):
        raise StageError(
            f"The recipe has {layout.workers} workers, torchrun started {place.ranks} ranks.",
            mend="Start one rank for each worker; replicas of a cut model are not placed on several hosts.",
        )
    items = task_of(request.card).batches(request.card, directory, request.workload, _items(request))
    batch = batch_for(items, request.workload.batch_size * layout.replicas)
    caller = _Replica(request, place, batch) if layout.cut is Cut.NONE else _Rank(request, place, batch)
    # in turns, so that both see the same neighbours
    timed = [(caller.call(), caller.alone()) for _ in range(options.calls + 2)][2:]
    return caller.report([spread for spread, _ in timed], [alone for _, alone in timed])


class _Rank:
    """A part of one model. All ranks call together."""

    def __init__(self, request: OpenRequest, place: Place, batch: Batch) -> None:
        self._request, self._place, self._batch = request, place, batch
        self._part: Part = open_part(request, place)
        self._one: Executor | None = None
        self._outputs: Any = None
        self._expected: Any = None

    def call(self) -> float:
        """Seconds from the moment that all were ready until this rank has its outputs."""
        dist.barrier()
        began = time.perf_counter()
        self._outputs = self._part.infer(self._batch)
        return time.perf_counter() - began

    def alone(self) -> float:
        """Seconds of the same call in one process, where a rank has outputs; 0 on the others, which wait meanwhile."""
        if self._outputs is None:
            return 0.0
        self._one = self._one or open_alone(self._request)
        began = time.perf_counter()
        self._expected = self._one.infer(self._batch)
        return time.perf_counter() - began

    def report(self, latencies: list[float], alone: list[float]) -> dict[str, Any] | None:
        generates = self._request.card.task is TaskId.CAUSAL_LM
        dist.barrier()
        made = self._part.generate(self._batch["input_ids"], 8, time.monotonic()) if generates else None
        if self._one is None:
            return None
        with closing(self._one):
            same = not made or np.array_equal(made.tokens, self._one.generate(self._batch["input_ids"], 8).tokens)
        return _result(self._place, latencies, alone, self._expected, self._outputs) | {
            "facts": self._part.facts, "greedy_tokens_identical": bool(same)
        }  # fmt: skip


class _Replica:
    """A whole model; rank 0 deals out the rows and gathers the answers."""

    def __init__(self, request: OpenRequest, place: Place, batch: Batch) -> None:
        self._request, self._place, self._batch = request, place, batch
        self._one = open_alone(request)
        rows = request.workload.batch_size
        self._shares = [{n: v[r * rows : (r + 1) * rows] for n, v in batch.items()} for r in range(place.ranks)]
        self._outputs: dict[str, Any] = {}
        self._expected: dict[str, Any] = {}

    def call(self) -> float:
        dist.barrier()
        began = time.perf_counter()
        first, mine = self._place.rank == 0, [None]
        dist.scatter_object_list(mine, self._shares if first else None, src=0)
        answers: list[Any] | None = [None] * self._place.ranks if first else None
        dist.gather_object(self._one.infer(mine[0]), answers, dst=0)  # type: ignore[arg-type]
        if answers is not None:
            self._outputs = _joined(answers)
        return time.perf_counter() - began

    def alone(self) -> float:
        """Seconds of all rows in one process, on the first rank; 0 on the others, which wait meanwhile."""
        if self._place.rank:
            return 0.0
        began = time.perf_counter()
        self._expected = _joined([self._one.infer(share) for share in self._shares])
        return time.perf_counter() - began

    def report(self, latencies: list[float], alone: list[float]) -> dict[str, Any] | None:
        return None if self._place.rank else _result(self._place, latencies, alone, self._expected, self._outputs)


def _joined(answers: list[Any]) -> dict[str, Any]:
    return {name: np.concatenate([a[name] for a in answers]) for name in answers[0]}


def _result(place: Place, latencies: list[float], alone: list[float], expected: Any, found: Any) -> dict[str, Any]:
    """Raises StageError when the answers are not those of one process."""
    difference = max(float(np.abs(found[name] - expected[name]).max()) for name in expected)
    allowed = max(TOLERANCE.values()) * max(1.0, *(float(np.abs(v).max()) for v in expected.values()))
    if not difference <= allowed:
        raise StageError(f"The answers differ from one process by {difference:.3g}; {allowed:.3g} is allowed.")
    return {
        "rank": place.rank, "host": socket.gethostname(), "ranks": place.ranks,
        "latency_ms": median(latencies) * 1e3, "samples_ms": [s * 1e3 for s in latencies],
        "one_process_ms": median(alone) * 1e3, "one_process_samples_ms": [s * 1e3 for s in alone], "max_abs_difference": difference,
    }  # fmt: skip


def _request(options: argparse.Namespace, recipe: str, ranks: int, scratch: Path) -> OpenRequest:
    directory, workload = Path(options.model), Workload.parse_words(options.workload)
    card = inspect(directory)
    # the recipe's workers are spread over all hosts; each has at least a core for its rank
    host = replace(this_host(), cores=max(this_host().cores, ranks), cluster=True)
    made = transform(
        TransformRequest(str(directory), card, recipe, workload, "", str(scratch), host, options.threads),
        lambda _: None, prove=False,
    )  # fmt: skip
    layout = replace(made.lowered.layout, timeout=options.timeout)
    share = replace(workload, batch_size=-(-workload.batch_size // layout.replicas))
    return OpenRequest(replace(made.lowered, layout=layout), str(directory), card, share, "", options.threads)


def _cause(error: SpeedrailError | RuntimeError, timeout: float) -> str:
    said = " ".join(str(error).split())[:600]
    if isinstance(error, SpeedrailError):
        return said
    # gloo's own errors name the peer's address, whoever failed
    if "timed out" in said.lower():
        return f"another rank was silent for {timeout:g} s: it is stopped, or the link to it is cut ({said})"
    return f"another rank is gone ({said})" if "onnection" in said else f"{type(error).__name__}: {said}"


def _device_towards(host: str) -> str:
    """The network device by which this host reaches that one; empty if it does not."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as never_sent:
        never_sent.connect((host, 9))
        return network_device(never_sent.getsockname()[0])
    return ""


def _items(request: OpenRequest) -> Any:
    from engine.data.parts import choose_parts

    return choose_parts(request.card, None, None).calibration


def _agree(mine: str, otherwise: str) -> None:
    """Every rank has the same as the first. Raises StageError on all of them, saying which host has what otherwise."""
    said: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(said, (mine, f"on {socket.gethostname()} has {otherwise}"))
    wanted = next((address for address, _ in said if address), "")
    for rank, (address, what) in enumerate(said):
        if not address or address != wanted:
            raise StageError(f"Rank {rank} {what}.", mend="Put the same files in the same place on every host.")


def _model(directory: Path) -> tuple[str, str]:
    """Its address, empty when it is not there, and what to say of it where hosts differ."""
    if not directory.is_dir():
        return "", f"no model in {directory}"
    address = artifact_id(directory)
    return address, f"another model in {directory} ({address[:12]})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="torchrun … -m engine.executors.spread.launched", description=__doc__)
    parser.add_argument("model", metavar="DIR", help="the model's directory on this host")
    parser.add_argument(
        "--recipe", required=True, action="append", help="with model_parallelism(…) or distributed(…); may be given again"
    )
    parser.add_argument("--workload", default="", metavar="k=v,…")
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
