"""The runtimes, listed by hand. Each loads its libraries when it is asked for."""

from __future__ import annotations

from importlib import import_module

from engine.domain.ports import Runtime
from engine.domain.recipe import RuntimeId

RUNTIMES: dict[RuntimeId, str] = {
    RuntimeId.EAGER: "engine.runtimes.eager:Eager",
    RuntimeId.INDUCTOR: "engine.runtimes.inductor:Inductor",
    RuntimeId.ONNXRUNTIME: "engine.runtimes.onnxruntime:OnnxRuntime",
    RuntimeId.OPENVINO: "engine.runtimes.openvino:OpenVino",
}
"""`package.module:ClassName` of each runtime."""


def runtime_of(id: RuntimeId) -> Runtime:
    """The runtime itself; imports its libraries."""
    module, _, name = RUNTIMES[id].partition(":")
    runtime: Runtime = getattr(import_module(module), name)()
    return runtime
