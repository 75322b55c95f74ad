"""Operators of a model on an accelerator: torch's own records of a device, played; recorded launches on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.autograd.profiler_util import FunctionEvent

from engine.domain.deployment import Placement, Variant
from engine.domain.operators import profile_of
from engine.executors.accelerator import AcceleratorExecutor
from engine.hardware.gpus import gpu_shown_as
from engine.measure.rooflines import under_device, with_operators
from engine.profiling.torch_profiler import _DEVICE, _HOST, _operators, profile
from engine.tasks.loading import load_module
from tests.engine.runtimes.test_accelerator import PlayedGraph
from tests.models import tiny_bert, tiny_card


def _event(name: str, parent: FunctionEvent | None, kernels: dict[str, float], shapes: Any = None) -> FunctionEvent:
    """As torch makes them of a run on a device: `kernels` in µs, which the host launched in 5 µs."""
    event = FunctionEvent(0, name, 0, 0.0, 5.0, input_shapes=shapes, use_device="cuda", concrete_inputs=[])
    for kernel, duration in kernels.items():
        event.append_kernel(kernel, 0, duration)
    if parent:
        parent.append_cpu_child(event)
        event.set_cpu_parent(parent)
    return event


def _records() -> list[FunctionEvent]:
    """Of two calls: a layer with its product, a view of it, a kernel that inductor generated."""
    found = []
    for _ in range(2):
        layer = _event("layer: encoder.query", None, {})
        linear = _event("aten::linear", layer, {}, [[64, 512], [256, 512]])
        product = _event("aten::addmm", linear, {"ampere_sgemm_128x64_tn": 30.0, "splitKreduce": 2.0})
        view = _event("aten::view", layer, {}, [[64, 256]])
        fused = _event("triton_poi_fused_gelu_0", None, {"triton_poi_fused_gelu_0": 8.0})
        found += [layer, linear, product, view, fused]
    return found


def test_an_operator_takes_what_its_kernels_take_on_the_device() -> None:
    found = {o.type: o for o in _operators(_records(), {0: ["float", "float"]}, {}, 2, "tf32", _DEVICE)}
    assert found.keys() == {"linear", "fused kernel"}  # a view launches nothing
    linear, fused = found["linear"], found["fused kernel"]
    assert (linear.ms, linear.layer, linear.kernel, linear.precision, linear.calls) == (0.032, "encoder.query", "aten::addmm", "tf32", 1)
    assert (fused.ms, fused.kernel) == (0.008, "triton_poi_fused_gelu_0")
    assert linear.flops == 2 * 64 * 512 * 256
    # the host's own clock sees launches, and the view
    assert {"linear", "view"} <= {o.type for o in _operators(_records(), {}, {}, 2, "fp32", _HOST)}


def test_measured_operators_lie_under_the_published_ceilings_of_their_device() -> None:
    operators = list(_operators(_records(), {0: ["float", "float"]}, {}, 2, "tf32", _DEVICE))
    measured = profile_of("torch.profiler", operators, 2)
    empty = under_device("NVIDIA A100-SXM4-80GB", measured)
    assert empty is not None
    found = with_operators(empty, measured)
    assert found is not None and found.source.startswith("published: NVIDIA A100")
    a100 = gpu_shown_as("NVIDIA A100-SXM4-80GB")
    assert a100 is not None and found.ceilings.compute == {"tf32": a100.peak("tf32")} and found.ceilings.bandwidth == {"memory": a100.bandwidth}
    (point,) = found.points  # a fused kernel tells no shapes
    assert point.share == pytest.approx(0.8) and point.flops_per_second == pytest.approx(2 * 64 * 512 * 256 / 32e-6)
    assert under_device("a board that nobody described", measured) is None


def test_what_was_recorded_is_launched_anew_for_the_profiler(tmp_path: Path) -> None:
    tiny_bert(tmp_path)
    executor = AcceleratorExecutor(load_module(Variant(str(tmp_path)), tiny_card(tmp_path)), Placement(device="cpu"), record=PlayedGraph)
    ids = np.arange(16, dtype=np.int64)[None] + 5
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    executor.infer(batch)
    recordings = PlayedGraph.made
    found = profile(executor, lambda: executor.infer(batch), 2)
    assert found is not None
    assert sum(o.calls for o in found.operators if o.type == "linear") == 12
    executor.infer(batch)
    assert PlayedGraph.made == recordings, "nothing was recorded again, before or after"


def test_a_device_whose_kernels_nobody_shows_has_no_profile(tmp_path: Path) -> None:
    tiny_bert(tmp_path)
    executor = AcceleratorExecutor(load_module(Variant(str(tmp_path)), tiny_card(tmp_path)), Placement(device="cpu"))
    executor.device_type = "mps"
    assert profile(executor, lambda: None, 1) is None
