"""This machine: what decides whether a recipe can run, and what is kept with every run.

Torch-free: library versions come from their metadata, not from importing them.
"""

from __future__ import annotations

import os
import platform
import socket
import tempfile
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import psutil

import engine
from engine.domain.host import Environment, HostFacts
from engine.hardware.accelerators import device_formats, device_runtimes, usable
from engine.intake.identity import digest

PACKAGE = Path(engine.__path__[0])

LIBRARIES = ("torch", "transformers", "torchao", "onnx", "onnxruntime", "openvino", "nncf", "numpy")
"""What can change a measured number when its version changes."""

SPEED_FLAGS = frozenset(
    {
        "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
        "avx512_fp16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "bf16", "i8mm", "sve",
    }
)  # fmt: skip
"""CPU flags that decide how fast arithmetic on tensors is (x86 and Arm spellings)."""


@cache
def this_host() -> HostFacts:
    """Facts of the machine this process runs on; read once."""
    cpu, flags = _cpu()
    return HostFacts(
        name=socket.gethostname(),
        cpu=cpu,
        cores=usable_cores(),
        memory_bytes=_memory_limit_bytes(),
        cpu_flags=flags,
        accelerators=tuple(str(device) for device in usable()),
        device_runtimes=device_runtimes(),
        device_formats=device_formats(),
        cluster=in_cluster(),
    )


def environment(threads: int, sandbox_level: str) -> Environment:
    """What is kept with a run. `threads` 0 means all usable cores, as in a workload."""
    host = this_host()
    return Environment(
        host=host.name,
        cpu=host.cpu,
        cores=host.cores,
        memory_bytes=host.memory_bytes,
        kernel=platform.release(),
        python=platform.python_version(),
        cpu_flags=tuple(sorted(host.cpu_flags & SPEED_FLAGS)),
        threads=threads or host.cores,
        governor=_governor(),
        sandbox=sandbox_level,
        versions=_versions(),
    )


@cache
def code() -> str:
    """Address of this very Speedrail: its sources and the library that carries messages between ranks."""
    files = ((str(file.relative_to(PACKAGE)), file.read_text()) for file in PACKAGE.rglob("*.py"))
    return digest([("torch", _versions()["torch"]), *files])


def usable_cores() -> int:
    """Cores this process may run on, which containers and cpusets make fewer than the machine's."""
    return len(psutil.Process().cpu_affinity() or []) or psutil.cpu_count() or 1


@cache
def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "not installed"
    return found


def _cpu() -> tuple[str, frozenset[str]]:
    """Model name and flags from /proc/cpuinfo (x86: `flags`, Arm: `Features`)."""
    name, flags = platform.processor() or platform.machine(), frozenset[str]()
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return name, flags
    for line in cpuinfo.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            name = value.strip()
        elif key.strip() in ("flags", "Features"):
            return name, frozenset(value.split())
    return name, flags


def _memory_limit_bytes() -> int:
    """The machine's memory, or the control group's limit where that is less."""
    total = int(psutil.virtual_memory().total)
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = Path(place)
        if limit.exists() and (text := limit.read_text().strip()).isdigit():
            total = min(total, int(text))
    return total


def network_device(address: str) -> str:
    """The network device of this host that has an address; empty where none has."""
    return next((name for name, own in psutil.net_if_addrs().items() if address in [each.address for each in own]), "")


def in_cluster() -> bool:
    """Whether Ray can place workers on other hosts from here, and nobody without the token can: see docs/spreading.md."""
    if os.environ.get("RAY_AUTH_MODE") != "token" or find_spec("ray") is None:
        return False
    folder = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()))
    return bool(os.environ.get("RAY_ADDRESS")) or (folder / "ray" / "ray_current_cluster").exists()


def _governor() -> str:
    """The frequency governor of the first core, or `unknown` (virtual machines have none)."""
    policy = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return policy.read_text().strip() if policy.exists() else "unknown"
