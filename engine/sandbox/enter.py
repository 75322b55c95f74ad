"""The child's side of the sandbox: shut the doors, then return to the caller.

    parent ── supervisor ── init (PID 1 of the namespace) ── main (returns from `enter`)

The supervisor lives outside the new PID namespace: when the channel to the parent
hangs up, because the parent closed it or was killed, it kills init, and with init the
kernel kills everything inside. Standard library only, and one thread.
"""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from engine.sandbox import landlock, namespaces

SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store")
"""Where compilers and shared libraries live: read and executed."""
CONFIGURATION = (
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/passwd", "/etc/group",
    "/etc/nsswitch.conf", "/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/os-release", "/proc", "/sys",
)  # fmt: skip
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
ACCELERATORS = ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-caps", "kfd", "dri", "dxg")
"""Below /dev, what drivers of NVIDIA, AMD and Intel talk through: read, written and told by ioctl."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What one child may do. Crosses the channel as the first line."""

    programs: list[str]
    """Read and executed: the interpreter, its libraries, this package."""
    readable: list[str]
    writable: list[str]
    memory_bytes: int
    cpu_seconds: int
    file_bytes: int
    processes: int
    scratch: str
    """Writable too, and removed when the child has ended."""
    loopback: bool = False
    """TCP among its own processes, on a network that has nothing but loopback."""
    network: bool = False
    """TCP on the host's own network, for a model whose workers are on several hosts."""
    accelerators: bool = False
    """The host's accelerators, which no other child may touch."""


def enter(profile: Profile, channel: int) -> tuple[str, ...]:
    """Shut the doors; returns, in the innermost process, the names of those that hold.

    `channel` is the file descriptor whose hang-up ends everything.
    """
    _become_first_to_be_killed()
    left = namespaces.unshare(network=not profile.network)
    namespaces.adopt_orphans()
    _split(channel, profile.scratch)
    holds = [namespaces.NAMES[flag] for flag in left]
    if namespaces.NEW_MOUNT in left and namespaces.keep_mounts_private():
        holds += ["own /dev/shm"] if namespaces.own_shared_memory(profile.memory_bytes // 4) else []
        if namespaces.NEW_PID in left and namespaces.own_proc():
            holds.append("own /proc")
    if namespaces.NEW_PID in left:
        _split()
    # where the network is the host's own, TCP stays shut and the workers cannot meet
    alone = profile.loopback and namespaces.NEW_NET in left and namespaces.raise_loopback()
    _limit(profile, own_user=namespaces.NEW_USER in left)
    namespaces.drop_privileges()
    if landlock.restrict(_allowed(profile, own_shm="own /dev/shm" in holds), tcp=alone or profile.network):
        holds.append("landlock")
    return tuple(holds)


def level_of(holds: tuple[str, ...]) -> str:
    """full: files, network and other processes are out of reach; partial: files are; else none."""
    if "landlock" not in holds:
        return "none"
    return "full" if {"network", "ipc", "pid"} <= set(holds) else "partial"


def _allowed(profile: Profile, *, own_shm: bool) -> list[tuple[Path, int]]:
    rules = [(Path(p), landlock.READ_AND_EXECUTE) for p in (*SYSTEM, *profile.programs)]
    rules += [(Path(p), landlock.READ) for p in (*CONFIGURATION, *profile.readable)]
    rules += [(Path(p), landlock.READ_FILE | landlock.WRITE_FILE) for p in DEVICES]
    if profile.accelerators:
        found = [path for pattern in ACCELERATORS for path in Path("/dev").glob(pattern)]
        rules += [(path, landlock.READ | landlock.WRITE_FILE | landlock.IOCTL_DEV) for path in found]
    rules += [(Path(p), landlock.WRITE) for p in (*profile.writable, profile.scratch)]
    if own_shm:
        rules.append((Path("/dev/shm"), landlock.WRITE))
    return rules


def _limit(profile: Profile, *, own_user: bool) -> None:
    limits = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, profile.file_bytes),
        (resource.RLIMIT_CPU, profile.cpu_seconds),
    ]
    if own_user:  # elsewhere it would count all processes of this user
        limits.append((resource.RLIMIT_NPROC, profile.processes))
    for which, value in limits:
        _, hard = resource.getrlimit(which)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def _split(channel: int | None = None, scratch: str = "") -> None:
    """Fork; the child returns, the parent stays to wait for it and ends as it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(reading)
        code = _stay(child, channel)
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
        os._exit(code)
    os.close(writing)
    namespaces.die_with_parent()
    # a parent that died before the line above would never kill us
    if select.select([reading], [], [], 0)[0]:
        os._exit(1)
    os.close(reading)


def _stay(child: int, channel: int | None) -> int:
    """Reap until `child` ends or the channel hangs up; nothing below survives. The exit code."""
    watched = select.poll()
    watched.register(os.pidfd_open(child), select.POLLIN)
    if channel is not None:
        watched.register(channel, 0)  # hang-up is reported unasked
    while True:
        if channel in [which for which, _ in watched.poll(1000)]:
            os.kill(child, signal.SIGKILL)
        while (ended := _reap())[0]:
            if ended[0] == child:
                _kill_orphans()
                code = os.waitstatus_to_exitcode(ended[1])
                return code if code >= 0 else 128 - code


def _reap() -> tuple[int, int]:
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return 0, 0


def _kill_orphans() -> None:
    """Without a PID namespace the kernel does not do this for us."""
    own = Path(f"/proc/self/task/{os.getpid()}/children")
    while own.exists() and (orphans := own.read_text().split()):
        for orphan in orphans:
            os.kill(int(orphan), signal.SIGKILL)
            os.waitpid(int(orphan), 0)


def _become_first_to_be_killed() -> None:
    """When the machine runs out of memory it should be us, not the worker or the dashboard."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError as error:
        print(f"oom_score_adj: {error}", file=sys.stderr)
