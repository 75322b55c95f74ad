"""`python -m engine.executors.spread.clustered`: asks Ray for hosts and starts a keeper on each. Its worker talks to it in JSON lines:

    from the worker   {"number": N, "workers": Workers, "most": Workers, "order": keeper.Order}   any number; end of file ends everything
    to the worker     {"address": this host's in the cluster}                                     once Ray is there
                      {"number": N, "problem": Problem}                           N could not be started; {"problem": …}: nothing can

`most` are workers of runs to come, which take turns with these and are reserved for at once.

A process of its own, because Ray takes over a process's signals and threads, and because Ray ends what this one has started when it
dies, however it dies. It holds the cluster's token, which no sandbox sees. Torch-free.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from dataclasses import replace
from typing import Any

from engine.domain.codec import as_data, decode, encode, from_data
from engine.domain.errors import Problem, SpeedrailError, StageError
from engine.domain.layout import Workers
from engine.executors.spread.keeper import Order
from engine.host import PACKAGE
from engine.plan import CLUSTER_COMMANDS

RESERVE_SECONDS = 60.0
"""Cores that others hold are waited for so long."""
_printing = threading.Lock()


class Hosts:
    """What is reserved: placement groups, in which workers of several runs take turns."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._groups: list[tuple[Workers, bool, Any]] = []
        self._reserving = threading.Lock()

    def start(self, workers: Workers, most: Workers, order: Order) -> None:
        """Returns when the keepers have ended well. Raises SpeedrailError."""
        ray, group = self._ray, self._reserved(workers, most, order.accelerators)
        at = ray.util.placement_group_table(group)["bundles_to_node_id"]
        addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
        bundle = importlib.import_module("ray.util.scheduling_strategies").PlacementGroupSchedulingStrategy
        waiting = []
        for i in range(workers.hosts):
            own = replace(order, ranks=tuple(workers.ranks(i)), own=str(addresses[at[i]]))
            # the cores are the group's: keepers of several runs, of which one is at work, are in it at a time
            task = ray.remote(_run).options(num_cpus=0, max_retries=0, scheduling_strategy=bundle(group, i))
            waiting.append(task.remote(encode(own), str(PACKAGE.parent)))
        while waiting:
            (ended, *_), waiting = ray.wait(waiting)
            try:
                code, said, errors = ray.get(ended)
            except ray.exceptions.RayError as error:
                raise StageError(f"A host is gone: {str(error).splitlines()[0][:300]}", mend="See `ray status`.", detail=str(error)) from None
            if code:
                lines = [line for line in said.splitlines() if line.startswith("{")]
                raise decode(Problem, lines[-1]).as_error() if lines else StageError(f"A host's keeper ended with exit code {code}.", detail=errors)

    def _reserved(self, workers: Workers, most: Workers, accelerators: bool) -> Any:
        """A core, and a GPU, for each worker. Raises StageError when the cluster has not got them."""
        with self._reserving:
            for kept, with_accelerators, group in self._groups:
                if kept.cover(workers) and with_accelerators == accelerators:
                    return group
            size = most if most.cover(workers) and able(self._ray, most, accelerators) >= most.hosts else workers
            self._groups.append((size, accelerators, reserved(self._ray, size, accelerators)))
            return self._groups[-1][-1]


def bundle_of(workers: Workers, accelerators: bool) -> dict[str, int]:
    """What is reserved on each host."""
    return dict.fromkeys(("CPU", *(["GPU"] if accelerators else [])), workers.each)


def able(ray: Any, workers: Workers, accelerators: bool) -> int:
    """Hosts that have as much."""
    wanted = bundle_of(workers, accelerators)
    return sum(node["Alive"] and all(node["Resources"].get(name, 0) >= count for name, count in wanted.items()) for node in ray.nodes())


def reserved(ray: Any, workers: Workers, accelerators: bool) -> Any:
    """The placement group: one bundle a host, strictly spread. Raises StageError."""
    if (found := able(ray, workers, accelerators)) < workers.hosts:
        unit = "GPU" if accelerators else "core"
        raise StageError(
            f"The cluster has {found} of {workers.hosts} hosts with {workers.each} {unit}{'s' * (workers.each > 1)} each.",
            mend="On each further host: RAY_AUTH_MODE=token ray start --address=FIRST_HOST:6379",
        )  # fmt: skip
    group = ray.util.placement_group([bundle_of(workers, accelerators)] * workers.hosts, strategy="STRICT_SPREAD")
    if not group.wait(RESERVE_SECONDS):
        ray.util.remove_placement_group(group)
        raise StageError(f"The cluster's cores stayed taken for {RESERVE_SECONDS:g} s.", mend="See `ray status`.")
    return group


def _run(order: str, folder: str) -> tuple[int, str, str]:
    """On a host, in a process of Ray's, with which the keeper ends: how it ended by itself. Imports nothing of ours."""
    import subprocess
    import sys

    program = [sys.executable, "-W", "ignore", "-m", "engine.executors.spread.keeper"]
    done = subprocess.run(program, input=order, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr[-4000:]


def connected() -> Any:
    """Ray. Raises StageError with the commands that mend it."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise StageError("Without a token whoever reaches a Ray cluster runs code on it.", mend="Set RAY_AUTH_MODE=token on every host.")
    try:
        ray = importlib.import_module("ray")
    except ModuleNotFoundError:
        raise StageError("Ray, which places workers on several hosts, is not installed.", mend=CLUSTER_COMMANDS) from None
    # those of keepers that end because another one failed
    os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"
    try:
        ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise StageError(f"No Ray cluster answers: {str(error).splitlines()[0][:200]}", mend=CLUSTER_COMMANDS) from error
    return ray


def main() -> int:
    try:
        ray = connected()
    except StageError as error:
        _say(problem=as_data(error.as_problem()))
        return 1
    hosts = Hosts(ray)
    _say(address=ray.util.get_node_ip_address())
    for line in sys.stdin:
        threading.Thread(target=_carry_out, args=(hosts, line), daemon=True).start()
    ray.shutdown()
    return 0


def _carry_out(hosts: Hosts, line: str) -> None:
    message = decode(dict[str, Any], line)
    try:
        workers, most = (from_data(Workers, message[which]) for which in ("workers", "most"))
        hosts.start(workers, most, from_data(Order, message["order"]))
    except SpeedrailError as error:
        _say(number=message["number"], problem=as_data(error.as_problem()))


def _say(**message: Any) -> None:
    with _printing:
        print(encode(message, dict[str, Any]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
