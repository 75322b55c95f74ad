"""`python -m engine doctor`: what this host has, and what it would take to run what it cannot."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engine.catalogue import TECHNIQUES
from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.recipe import RuntimeId
from engine.domain.technique import RunsOn, Situation
from engine.hardware.accelerators import accelerators, device_formats, device_runtimes, torch_build, usable
from engine.host import this_host
from engine.measure.boards import boards
from engine.plan import CLUSTER_COMMANDS
from engine.settings import Settings
from engine.techniques.gpu.spec import MENDS
from storage import open_storage


@dataclass(frozen=True, slots=True)
class Finding:
    """`fine`: it is there; otherwise `mend` says how to get it."""

    what: str
    fine: bool
    found: str
    mend: str = ""


def doctor(settings: Settings, *, as_json: bool) -> int:
    """Always 0: a host that lacks something is no error."""
    found = [*_host(settings), *_accelerators(), *_runtimes(), *_techniques()]
    if as_json:
        print(json.dumps([asdict(f) for f in found], indent=2))
        return 0
    for each in found:
        print(f"{'yes' if each.fine else 'no ':3} {each.what:34} {each.found}")
        if each.mend:
            print(f"    {'':34} → {each.mend}")
    return 0


def _host(settings: Settings) -> list[Finding]:
    host = this_host()
    calibrated = open_storage(settings).hosts.calibration(host.name)
    return [
        Finding("processor", True, f"{host.cpu}, {host.cores} core{'s'[: host.cores > 1]}, {host.memory_bytes / 2**30:.1f} GiB"),
        Finding("native int8 products (VNNI)", host.has_vnni, "" if host.has_vnni else "activations get 7 bits on eager and inductor",
                "" if host.has_vnni else "int8 pays less here; run it on a host with AVX-512 VNNI or AVX-VNNI."),
        Finding("native bf16 arithmetic", host.has_bf16, "" if host.has_bf16 else "openvino refuses bf16 here",
                "" if host.has_bf16 else "Choose int8, or a host with AVX-512 BF16 or AMX."),
        Finding("calibrated", calibrated is not None, f"on {calibrated.measured_at:%Y-%m-%d}" if calibrated else "peaks are not known",
                "" if calibrated else "python -m engine calibrate"),
        Finding("C++ compiler", shutil.which("g++") is not None, shutil.which("g++") or "inductor and the FPGA simulation need one",
                "" if shutil.which("g++") else "Install your system's g++."),
        Finding("cluster of several hosts (Ray)", host.cluster, "", "" if host.cluster else CLUSTER_COMMANDS),
    ]  # fmt: skip


def _accelerators() -> list[Finding]:
    seen, able, build = accelerators(), usable(), torch_build()
    if able:
        found = [Finding("accelerator", True, ", ".join(d.name for d in able))]
        if able[0].kind == "cuda":
            seen_by_driver, library = boards(), _installed("nvidia-ml-py")
            words = ", ".join(b.name for b in seen_by_driver) or library
            found.append(Finding("power meter of the GPU", bool(seen_by_driver), words, "" if library else "pip install nvidia-ml-py"))
        fp8 = "fp8" in device_formats()
        found.append(Finding("fp8 products on it", fp8, "", "" if fp8 else "Choose int8, or a GPU from NVIDIA's Ada and Hopper or AMD's CDNA 3 on."))
        runtimes = device_runtimes()
        return [*found, *(Finding(f"runtime {r} on it", str(r) in runtimes, "", "" if str(r) in runtimes else f"{MENDS[r]}.") for r in RuntimeId)]
    if seen:
        needed = {"cuda": "CUDA or ROCm", "xpu": "XPU", "mps": "Metal"}[seen[0].kind]
        return [
            Finding(
                "accelerator", False, f"{seen[0].name} is here, PyTorch is built for {build or 'nothing'}",
                f"Install PyTorch's {needed} wheel (pytorch.org/get-started).",
            )
        ]
    return [
        Finding(
            "accelerator", False, "none is seen",
            "Project instead: gpu(device=h100), or python -m engine project PATH; or start a worker on a host that has one.",
        )
    ]


def _runtimes() -> list[Finding]:
    packages = {RuntimeId.EAGER: "torch", RuntimeId.INDUCTOR: "torch", RuntimeId.ONNXRUNTIME: "onnxruntime", RuntimeId.OPENVINO: "openvino"}
    found = [Finding(f"runtime {runtime}", bool(_installed(p)), f"{p} {_installed(p)}", "" if _installed(p) else f"pip install {p}") for runtime, p in packages.items()]
    namespaces = Path("/proc/self/ns/user").exists()
    return [*found, Finding("sandbox namespaces", namespaces, "", "" if namespaces else "This kernel lacks user namespaces: models run with less isolation.")]


def _techniques() -> list[Finding]:
    """Every technique with its defaults on a transformer and on a CNN of Hugging Face."""
    found = []
    for spec in TECHNIQUES:
        able = [r for rule in spec.rules if isinstance(rule, RunsOn) for r in sorted(rule.runtimes)] or list(RuntimeId)
        obstacles = {}
        for task in (TaskId.TEXT_ENCODER, TaskId.CAUSAL_LM, TaskId.IMAGE_CLASSIFIER):
            tries = [spec.obstacles(spec.config(), Situation(_card(task), runtime, this_host())) for runtime in able]
            if all(tries):
                obstacles[task] = tries[0][0]
        words = "on " + ", ".join(str(r) for r in able) if not obstacles else "; ".join(f"{t.label}: {o.reason}" for t, o in obstacles.items())
        same = {o.reason for o in obstacles.values()}
        if len(obstacles) == 3 and len(same) == 1:
            words = same.pop()
        mend = next((o.mend for o in obstacles.values() if o.mend), "")
        found.append(Finding(f"technique {spec.id}", len(obstacles) < 3, words, mend))
    return found


def _card(task: TaskId) -> ModelCard:
    """A model of ordinary size, for obstacles to judge."""
    operators = {"Conv2d": 20, "Linear": 1} if task is TaskId.IMAGE_CLASSIFIER else {"Linear": 36}
    is_text = task is not TaskId.IMAGE_CLASSIFIER
    heads = 12 if is_text else 0
    return ModelCard(
        ArtifactFormat.HUGGINGFACE, task, "a model", 22_000_000, "float32", (), operators=operators, num_layers=6,
        num_heads=heads, num_kv_heads=heads, hidden_size=384, intermediate_size=1536, head_dim=32, vocab_size=30522, has_tokenizer=is_text,
    )  # fmt: skip


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
