"""Starting a child: what it is given, and what it is not."""

from __future__ import annotations

import os
import shutil
import site
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import engine
from engine.domain.errors import ChildError
from engine.host import usable_cores
from engine.sandbox.child import Child
from engine.sandbox.enter import Profile, level_of
from engine.sandbox.limits import Limits

_HELLO_SECONDS = 60.0
LEVELS = ("none", "partial", "full")
"""Of isolation, the least first."""
RANKS = "+ranks"
"""In a kind: its child has several processes that talk over loopback."""
HOSTS = "+hosts"
"""In a kind: its child is one of several on different hosts, which talk over the hosts' network."""
DEVICE = "+device"
"""In a kind: its child may use the host's accelerators."""
_PACKAGE = Path(engine.__path__[0])


def start_child(
    kind: str,
    *,
    readable: list[Path],
    writable: list[Path],
    limits: Limits,
    log: Path,
    threads: int,
    least_level: str = "none",
    module: str = "engine.child",
    sockets: Sequence[socket.socket] = (),
    words: Mapping[str, str] = MappingProxyType({}),
) -> Child:
    """A fresh child that has entered its sandbox and waits for a request.

    kind: see engine.child; with RANKS for several processes, with HOSTS for the host's network, with DEVICE for accelerators. Paths are files or folders that exist; home and temporary files
    are a folder of its own, gone when it ends. Output is appended to `log`. threads: 0
    takes all cores. The child lives at most as long as this process. Raises ChildError
    when it does not start or is isolated less than `least_level`. module: what is run; it
    must enter the sandbox as engine.child does. sockets: connections that it inherits under their numbers; words: more
    of its environment.
    """
    scratch = Path(tempfile.mkdtemp(prefix="speedrail-child-"))
    ours, its = socket.socketpair()
    log.parent.mkdir(parents=True, exist_ok=True)
    with its, log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-X", "faulthandler", "-m", module, kind, str(its.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=scratch,
            env={**_environment(kind, scratch, threads or usable_cores()), **words},
            pass_fds=(its.fileno(), *(each.fileno() for each in sockets)),
            start_new_session=True,
        )
    child = Child(process, ours, log, scratch)
    try:
        child.send({"profile": asdict(_profile(readable, writable, scratch, limits, kind))})
        child.isolation = tuple(child.receive(_HELLO_SECONDS)["hello"])
        child.level = level_of(child.isolation)
        _demand(child.level, least_level)
        child.watch(limits, [*writable, scratch])
    except BaseException:
        child.kill()
        raise
    return child


def _demand(level: str, least: str) -> None:
    if LEVELS.index(level) < LEVELS.index(least):
        raise ChildError(
            f"This host isolates children only at level {level}; {least} is demanded.",
            mend="Allow unprivileged user namespaces and Landlock, or lower SPEEDRAIL_SANDBOX_LEVEL.",
        )


def _profile(readable: list[Path], writable: list[Path], scratch: Path, limits: Limits, kind: str) -> Profile:
    return Profile(
        programs=_programs(),
        readable=[str(path.resolve()) for path in readable],
        writable=[str(path.resolve()) for path in writable],
        memory_bytes=limits.memory_bytes,
        cpu_seconds=limits.cpu_seconds,
        file_bytes=limits.file_bytes,
        processes=limits.processes,
        scratch=str(scratch),
        loopback=RANKS in kind,
        network=HOSTS in kind,
        accelerators=DEVICE in kind,
    )


def _programs() -> list[str]:
    """The interpreter, the environment's packages, and `engine` (not the folder around it)."""
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, *site.getsitepackages()}
    places |= {path for name, path in sysconfig.get_paths().items() if name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return sorted({str(Path(place).resolve()) for place in places} | {str(_PACKAGE)})


def _environment(kind: str, scratch: Path, threads: int) -> dict[str, str]:
    """Nothing of ours is passed on but what finds programs and libraries.

    What is timed waits for its threads as it would outside (sleeping at once costs eager
    and inductor a wake-up for each operator); everybody else yields the cores.
    """
    timed = kind.partition("+")[0] in ("measure", "fixed")
    waiting = {"KMP_BLOCKTIME": "1"} if timed else {"KMP_BLOCKTIME": "0", "OMP_WAIT_POLICY": "PASSIVE"}
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "CC", "CXX", "TZ") if name in os.environ}
    search = dict.fromkeys([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"])
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler:
        search.setdefault(str(Path(compiler).parent))
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return kept | counts | waiting | {
        "PATH": ":".join(search),
        "PYTHONPATH": str(_PACKAGE.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "USER": "speedrail",
        "LANG": "C.UTF-8",
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
    }  # fmt: skip
