"""Opened torch modules on an accelerator, through torch.accelerator (CUDA, ROCm, XPU, MPS).

Inputs go over from pinned memory without waiting, outputs come back before a call
returns, so that what is timed is the whole call. `device_milliseconds` is what the
device itself was busy, by its own events. Written, unmeasured: no machine with an
accelerator has run it yet; tests drive it on the CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import StaticCache

from engine.domain.deployment import Placement
from engine.domain.ports import Batch, Generation, Outputs
from engine.executors.torch_local import EagerExecutor, causal_lm_of, to_array, to_tensor
from engine.tasks.traceable import Traceable

_KERNELS = {
    "flash": [SDPBackend.FLASH_ATTENTION], "efficient": [SDPBackend.EFFICIENT_ATTENTION], "math": [SDPBackend.MATH],
}  # fmt: skip
_WARM_CALLS = 3
"""Before a graph is captured, on a stream of its own, as torch.cuda.graph asks for."""


class AcceleratorExecutor(EagerExecutor):
    """Eager on a device; graphs are captured at the first call of each shape."""

    def __init__(self, module: Traceable, placement: Placement) -> None:
        super().__init__(module)
        self._device = torch.device(placement.device)
        self._placement = placement
        torch.set_float32_matmul_precision("high" if placement.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = placement.tf32
        module.to(self._device)
        if placement.channels_last:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._graphs: dict[tuple[torch.Size, ...], _Graph] = {}
        self.device_milliseconds = 0.0

    def infer(self, batch: Batch) -> Outputs:
        with torch.inference_mode(), self._attention():
            tensors = [self._over(to_tensor(batch[name], self._dtype)) for name in self._module.inputs]
            with self._timed():
                outputs = self._call(*tensors)
            return {name: to_array(value.cpu()) for name, value in zip(self._module.outputs, outputs, strict=True)}

    def peak_bytes(self) -> int:
        """The allocator's high-water mark on the device; 0 where it keeps none."""
        return int(torch.accelerator.max_memory_allocated(self._device)) if self._device.type != "cpu" else 0

    def _over(self, tensor: Tensor) -> Tensor:
        if self._placement.channels_last and tensor.dim() == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        if self._device.type in ("cuda", "xpu"):
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)

    def _call(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        if not self._placement.cuda_graphs or self._device.type != "cuda":
            return super()._call(*tensors)
        shapes = tuple(t.shape for t in tensors)
        if shapes not in self._graphs:
            self._graphs[shapes] = _Graph(self._module, tensors)
        return self._graphs[shapes].replay(tensors)

    def _greedy(self, input_ids: Tensor, new_tokens: int, began: float) -> Generation:
        """A static cache on the device; a token's time is when the host has it."""
        model = causal_lm_of(self._module)
        prompt = input_ids.shape[1]
        cache = StaticCache(config=model.config, max_cache_len=prompt + new_tokens)
        step, position = self._over(input_ids), torch.arange(prompt, device=self._device)[None]
        tokens, times = [], []
        with self._attention(), self._timed():
            for index in range(new_tokens):
                logits = model(
                    input_ids=step, position_ids=position, past_key_values=cache, use_cache=True, logits_to_keep=1
                ).logits
                step = logits[:, -1:].argmax(-1)
                tokens.append(step.cpu())
                times.append(time.perf_counter() - began)
                position = torch.full((1, 1), prompt + index, device=self._device)
        return Generation(torch.cat(tokens, dim=1).numpy(), tuple(times))

    @contextmanager
    def _attention(self) -> Iterator[None]:
        with ExitStack() as stack:
            if kernels := _KERNELS.get(self._placement.attention):
                stack.enter_context(sdpa_kernel(kernels))
            yield

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Device time of what is inside, from events on its stream."""
        if self._device.type == "cpu":
            began = time.perf_counter()
            yield
            self.device_milliseconds = (time.perf_counter() - began) * 1e3
            return
        first, last = (torch.Event(self._device, enable_timing=True) for _ in range(2))
        first.record()
        yield
        last.record()
        last.synchronize()
        self.device_milliseconds = float(first.elapsed_time(last))


class _Graph:
    """Launches recorded once for inputs at fixed places, replayed after copying new inputs there."""

    def __init__(self, function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> None:
        self._inputs = tuple(t.clone() for t in inputs)
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_CALLS):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs: tuple[Tensor, ...] = function(*self._inputs)

    def replay(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        for place, value in zip(self._inputs, inputs, strict=True):
            place.copy_(value, non_blocking=True)
        self._graph.replay()
        return self._outputs
