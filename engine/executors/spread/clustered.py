"""The rank program on the hosts of a Ray cluster, for recipes whose `hosts` is above 1. On any host of it:

    RAY_AUTH_MODE=token python -m engine.executors.spread.clustered MODEL \\
        --recipe 'model_parallelism(kind=tensor, degree=2, hosts=2)'

Ray reserves the cores (a placement group: one bundle a host, strictly spread) and starts the ranks in them; what these say
to each other, check and measure is `launched`'s. Every host has the same model and the same Speedrail in the same place.
There is no sandbox here: give it models you trust.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import engine
from engine.domain.errors import InvalidInput, SpeedrailError, StageError
from engine.grammar import parse_recipe
from engine.plan import CLUSTER_COMMANDS, hosts_of, workers_of

ROOT = Path(engine.__path__[0]).parent
RESERVE_SECONDS = 60.0
"""Cores that others hold are waited for so long."""
GRACE_SECONDS = 3.0
"""When one rank complains, another has often died a moment before: that is the cause to name."""
Ended = tuple[int, int, str, str]
"""Of one rank: its number, exit code, output and errors."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """So many workers on so many hosts, `each` at most on one."""

    workers: int
    hosts: int

    @property
    def each(self) -> int:
        return ceil(self.workers / self.hosts)

    def ranks(self, host: int) -> list[int]:
        return list(range(self.workers))[host * self.each :][: self.each]


def main(arguments: list[str]) -> int:
    options, passed_on = _parser().parse_known_args(arguments)
    recipes = [word for recipe in options.recipe for word in ("--recipe", recipe)]
    program = ["-m", "engine.executors.spread.launched", options.model, *recipes, *passed_on]
    try:
        for line in place(_cluster(), wanted_of(options.recipe), program, options.port, options.most_seconds):
            print(line, flush=True)
    except SpeedrailError as error:
        print(f"speedrail: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def wanted_of(recipes: list[str]) -> Wanted:
    """What all of them ask for. Raises RecipeError, and InvalidInput where they differ or cannot be placed."""
    asked = {Wanted(workers_of(recipe), hosts_of(recipe)) for recipe in map(parse_recipe, recipes)}
    wanted = asked.pop()
    if asked:
        raise InvalidInput("The recipes ask for different workers or hosts.", mend="Launch them one by one.", where="recipe")
    if not wanted.ranks(wanted.hosts - 1):
        raise InvalidInput(
            f"{wanted.workers} workers, {wanted.each} on a host, leave one of {wanted.hosts} hosts without any.",
            mend="Choose fewer hosts.", where="hosts",
        )  # fmt: skip
    return wanted


def place(ray: Any, wanted: Wanted, program: list[str], port: int, most_seconds: float) -> list[str]:
    """What the ranks printed. Raises StageError naming rank, host and cause; no rank is left then either."""
    group = _reserved(ray, wanted)
    try:
        at = ray.util.placement_group_table(group)["bundles_to_node_id"]
        addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
        hosts = [str(addresses[at[i]]) for i in range(wanted.hosts)]
        words = {"MASTER_ADDR": hosts[0], "MASTER_PORT": str(port), "WORLD_SIZE": str(wanted.workers)}
        bundle = importlib.import_module("ray.util.scheduling_strategies").PlacementGroupSchedulingStrategy
        started = [
            ray.remote(_run).options(num_cpus=wanted.each, max_retries=0, scheduling_strategy=bundle(group, i))
            .remote(wanted.ranks(i), words, program, str(ROOT))
            for i in range(wanted.hosts)
        ]  # fmt: skip
        ended = _answers(ray, dict(zip(started, hosts, strict=True)), most_seconds)
    finally:
        # ends whatever still runs in it
        ray.util.remove_placement_group(group)
    return [line for _, ranks in ended for _, _, output, _ in ranks for line in output.splitlines() if line.startswith("{")]


def _run(ranks: list[int], words: dict[str, str], program: list[str], folder: str) -> list[Ended]:
    """On a host, in a process of Ray's, with which the ranks end: how they ended by themselves. Imports nothing of ours."""
    import os
    import subprocess
    import sys
    import tempfile
    import time

    files = [(tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")) for _ in ranks]  # noqa: SIM115 (pipes would fill)
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", *program], cwd=folder, env={**os.environ, **words, "RANK": str(rank)},
            stdout=output, stderr=errors,
        )
        for rank, (output, errors) in zip(ranks, files, strict=True)
    ]  # fmt: skip
    while not any(process.poll() for process in started) and any(process.poll() is None for process in started):
        time.sleep(0.1)
    ended = [(rank, process.poll(), *files[i]) for i, (rank, process) in enumerate(zip(ranks, started, strict=True))]
    for process in started:  # nobody meets a rank that failed
        process.kill()
        process.wait()
    for _, _, output, errors in ended:
        output.seek(0)
        errors.seek(0)
    return [(rank, code, output.read(), errors.read()) for rank, code, output, errors in ended if code is not None]


def _answers(ray: Any, hosts: dict[Any, str], most_seconds: float) -> list[tuple[str, list[Ended]]]:
    """Of all hosts, or of those that answer soon after one on which a rank failed. Raises StageError."""
    waiting, ended, deadline = list(hosts), list[tuple[str, list[Ended]]](), time.monotonic() + most_seconds
    while waiting and (left := deadline - time.monotonic()) > 0:
        done, waiting = ray.wait(waiting, timeout=left)
        for each in done:
            try:
                ended.append((hosts[each], ray.get(each, timeout=GRACE_SECONDS)))
            except ray.exceptions.RayError as error:
                what = str(error).splitlines()[0][:300]
                raise StageError(f"The ranks on {hosts[each]} are gone: {what}", mend="See `ray status`.", detail=str(error)) from None
            if any(code for _, code, _, _ in ended[-1][1]):
                deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
    _demand_success(ended)
    if waiting:
        raise StageError(f"The ranks on {hosts[waiting[0]]} did not end within {most_seconds:g} s.", mend="Allow more with --most-seconds.")
    return ended


def _demand_success(ended: list[tuple[str, list[Ended]]]) -> None:
    """Raises StageError with what the first to fail said: one that was killed before those that then missed it."""
    failed = [(code, rank, host, errors) for host, ranks in ended for rank, code, _, errors in ranks if code]
    if failed:
        code, rank, host, errors = min(failed)
        own = next((line for line in errors.splitlines() if line.startswith("speedrail: ")), errors[-600:])
        cause = f"killed by {signal.Signals(-code).name}" if code < 0 else own.removeprefix("speedrail: ")
        raise StageError(f"rank {rank} on {host} ended: {cause}", detail=errors)


def _reserved(ray: Any, wanted: Wanted) -> Any:
    """A core for each worker. Raises StageError when the cluster has not got them."""
    able = sum(node["Alive"] and node["Resources"].get("CPU", 0) >= wanted.each for node in ray.nodes())
    if able < wanted.hosts:
        raise StageError(
            f"The cluster has {able} of {wanted.hosts} hosts with {wanted.each} core{'s' * (wanted.each > 1)} each.",
            mend="On each further host: RAY_AUTH_MODE=token ray start --address=FIRST_HOST:6379",
        )  # fmt: skip
    group = ray.util.placement_group([{"CPU": wanted.each}] * wanted.hosts, strategy="STRICT_SPREAD")
    if not group.wait(RESERVE_SECONDS):
        ray.util.remove_placement_group(group)
        raise StageError(f"The cluster's cores stayed taken for {RESERVE_SECONDS:g} s.", mend="See `ray status`.")
    return group


def _cluster() -> Any:
    """Ray, connected. Raises StageError with the commands that mend it."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise StageError("Without a token whoever reaches a Ray cluster runs code on it.", mend="Set RAY_AUTH_MODE=token on every host.")
    try:
        ray = importlib.import_module("ray")
    except ModuleNotFoundError:
        raise StageError("Ray, which places workers on several hosts, is not installed.", mend=CLUSTER_COMMANDS) from None
    # those of ranks that end because another one failed
    os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"
    try:
        ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise StageError(f"No Ray cluster answers: {str(error).splitlines()[0][:200]}", mend=CLUSTER_COMMANDS) from error
    return ray


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine.executors.spread.clustered", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Other options are the rank program's: python -m engine.executors.spread.launched --help.",
    )  # fmt: skip
    parser.add_argument("model", metavar="DIR", help="the model's directory, the same on every host")
    parser.add_argument("--recipe", required=True, action="append", help="with hosts= above 1; may be given again")
    parser.add_argument("--port", type=int, default=29500, help="free on every host: where the ranks meet")
    parser.add_argument("--most-seconds", type=float, default=3600.0, metavar="SECONDS", help="everything ends after so long")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
