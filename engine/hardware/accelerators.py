"""The accelerators of this host and whether the installed torch can use them. Torch-free: the dashboard asks too."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_ASK_SECONDS = 10
_FP8_CAPABILITY = (8, 9)
"""Of NVIDIA's Ada; Hopper and Blackwell have more."""
_FP8_TARGETS = range(90400, 100000)
"""gfx940 on, AMD's CDNA 3 and later, as the kernel's driver writes it."""


@dataclass(frozen=True, slots=True)
class Accelerator:
    """`kind` as torch.accelerator names it: cuda (ROCm too), xpu or mps. `has_fp8`: it multiplies floats of eight bits."""

    kind: str
    name: str
    has_fp8: bool = False

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@cache
def accelerators() -> tuple[Accelerator, ...]:
    """Devices that the operating system shows, whether or not torch can use them."""
    return tuple(device for find in _FINDERS for device in find())


def torch_build() -> str:
    """What the installed torch was built for: cuda, rocm, xpu, mps or cpu; empty without torch."""
    try:
        local = version("torch").partition("+")[2]
    except PackageNotFoundError:
        return ""
    for kind, prefix in (("cuda", "cu"), ("rocm", "rocm"), ("xpu", "xpu")):
        if local.startswith(prefix):
            return kind
    if local == "cpu":
        return "cpu"
    # wheels of PyPI have no suffix: CUDA on Linux, Metal on Apple silicon
    if platform.system() == "Darwin":
        return "mps" if platform.machine() == "arm64" else "cpu"
    return "cuda" if _has_package("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime-cu13") else "cpu"


def usable() -> tuple[Accelerator, ...]:
    """Devices that the installed torch can use."""
    build = torch_build()
    kinds = {"rocm": "cuda"}.get(build, build)
    return tuple(device for device in accelerators() if device.kind == kinds)


def device_runtimes() -> tuple[str, ...]:
    """The runtimes that can open a model on a device of this host, by what is installed. Theirs is what they then say."""
    found = ["eager"] if usable() else []
    if usable() and (torch_build() != "cuda" or _has_package("triton")):
        found.append("inductor")
    if any(device.kind == "cuda" for device in accelerators()) and _has_package("onnxruntime-gpu"):
        found.append("onnxruntime")
    if any(device.kind == "xpu" for device in accelerators()) and _has_package("openvino"):
        found.append("openvino")
    return tuple(found)


def device_formats() -> tuple[str, ...]:
    """Number formats that all usable devices multiply and not every device does."""
    devices = usable()
    return ("fp8",) if devices and all(device.has_fp8 for device in devices) else ()


def _has_package(*names: str) -> bool:
    for name in names:
        try:
            version(name)
        except PackageNotFoundError:
            continue
        return True
    return False


def _nvidia() -> list[Accelerator]:
    if not Path("/proc/driver/nvidia/version").exists() or not shutil.which("nvidia-smi"):
        return []
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=_ASK_SECONDS, check=True,
        )  # fmt: skip
    except (subprocess.SubprocessError, OSError):
        return []  # a driver without a device, or one that hangs: nothing that could be used
    lines = [line.rpartition(",") for line in done.stdout.splitlines() if line.strip()]
    return [Accelerator("cuda", name.strip(), _capability(words) >= _FP8_CAPABILITY) for name, _, words in lines]


def _capability(words: str) -> tuple[int, ...]:
    """`8.9` as numbers; empty where the driver does not tell."""
    parts = words.strip().split(".")
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else ()


def _amd() -> list[Accelerator]:
    nodes = sorted(Path("/sys/class/kfd/kfd/topology/nodes").glob("*/properties"))
    found = []
    for node in nodes:
        words = dict(line.split(maxsplit=1) for line in node.read_text().splitlines() if " " in line)
        if words.get("simd_count", "0") != "0":
            name = (node.parent / "name").read_text().strip() if (node.parent / "name").exists() else ""
            target = int(words.get("gfx_target_version", "0"))
            found.append(Accelerator("cuda", f"AMD {name or 'GPU'}", target in _FP8_TARGETS))
    return found


def _intel() -> list[Accelerator]:
    drivers = [Path(card, "device", "driver").resolve().name for card in Path("/sys/class/drm").glob("card[0-9]")]
    return [Accelerator("xpu", "Intel GPU") for driver in drivers if driver in ("xe", "i915")]


def _apple() -> list[Accelerator]:
    is_apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return [Accelerator("mps", "Apple GPU")] if is_apple else []


_FINDERS: tuple[Callable[[], list[Accelerator]], ...] = (_nvidia, _amd, _intel, _apple)
