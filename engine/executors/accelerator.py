"""Opened torch modules on an accelerator, through torch.accelerator (CUDA, ROCm, XPU, MPS).

Inputs go over from pinned memory without waiting, outputs come back before a call
returns, so that what is timed is the whole call. `device_ms` is what the device
itself was busy, by its own events. On CUDA the launches of a call, and of a token of a
generation, are recorded once and replayed. Written, unmeasured: no machine with an
accelerator has run it yet; tests drive it on the CPU, the recording played by a stand-in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import StaticCache

from engine.domain.deployment import Placement
from engine.domain.ports import Batch, Generation, Outputs
from engine.domain.workload import KvCache
from engine.executors.torch_compiled import hand_out, repeated_blocks
from engine.executors.torch_local import EagerExecutor, can_generate, causal_lm_of, to_array, to_tensor
from engine.runtimes.device_layers import skip_zeros
from engine.tasks.traceable import Traceable

Function = Callable[..., tuple[Tensor, ...]]
_KERNELS = {
    "flash": [SDPBackend.FLASH_ATTENTION], "efficient": [SDPBackend.EFFICIENT_ATTENTION], "math": [SDPBackend.MATH],
}  # fmt: skip
WARM_CALLS = 3
"""Before a graph is captured, on a stream of its own, as torch.cuda.graph asks for."""


class Recording(Protocol):
    """The launches of a function for inputs of one shape, made once."""

    def replay(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What the function gives for these inputs; overwritten by the next replay."""
        ...


class AcceleratorExecutor(EagerExecutor):
    """Eager or compiled on a device. A causal LM has a static cache there.

    record: how launches are recorded; None: CUDA's graphs where the placement asks for them.
    """

    def __init__(
        self, module: Traceable, placement: Placement, *, compiled: bool = False,
        record: Callable[[Function, tuple[Tensor, ...]], Recording] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(module, KvCache.STATIC)
        self._device = torch.device(placement.device)
        self.device_type, self.compiled = self._device.type, compiled
        self._placement = placement
        self._record = record or (CudaGraph if placement.cuda_graphs and self._device.type == "cuda" else None)
        torch.set_float32_matmul_precision("high" if placement.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = placement.tf32
        module.to(self._device)
        self.sparse_layers = skip_zeros(module) if self._device.type == "cuda" else 0
        if placement.channels_last:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._blocks: list[nn.Module] = repeated_blocks(module.model) if compiled and can_generate(module) else []
        for block in self._blocks:
            block.forward = torch.compile(block.forward, dynamic=False)
        self._function: Any = torch.compile(module, dynamic=False) if compiled and not self._blocks else module
        self._recordings: dict[tuple[torch.Size, ...], Recording] = {}
        self._token: Recording | None = None
        self.unrecorded = ""
        """Why launches were not recorded though they should have been."""

    def infer(self, batch: Batch) -> Outputs:
        with torch.inference_mode(), self._attention():
            tensors = [self._over(to_tensor(batch[name], self._dtype)) for name in self._module.inputs]
            with self._timed():
                outputs = self._call(*tensors)
            return {name: to_array(value.cpu()) for name, value in zip(self._module.outputs, outputs, strict=True)}

    def peak_bytes(self) -> int:
        """The allocator's high-water mark on the device; 0 where it keeps none."""
        return int(torch.accelerator.max_memory_allocated(self._device)) if self._device.type != "cpu" else 0

    @contextmanager
    def launching(self) -> Iterator[None]:
        kept = self._record, self._recordings, self._token
        self._record, self._recordings, self._token = None, {}, None
        try:
            yield
        finally:
            self._record, self._recordings, self._token = kept

    def _over(self, tensor: Tensor) -> Tensor:
        if self._placement.channels_last and tensor.dim() == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        if self._device.type in ("cuda", "xpu"):
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)

    def _call(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        shapes = tuple(t.shape for t in tensors)
        if shapes not in self._recordings and (recording := self._recorded(self._function, tensors)):
            self._recordings[shapes] = recording
        if shapes in self._recordings:
            return self._recordings[shapes].replay(tensors)
        outputs: tuple[Tensor, ...] = self._function(*tensors)
        return outputs

    def _recorded(self, function: Function, inputs: tuple[Tensor, ...]) -> Recording | None:
        """None where nothing records, or a function cannot be recorded: it is then launched as it is."""
        if self._record is None or self.unrecorded:
            return None
        try:
            return self._record(function, inputs)
        except RuntimeError as error:
            self.unrecorded = str(error)
            return None

    def _greedy_fixed(self, input_ids: Tensor, new_tokens: int, began: float) -> Generation:
        """A token's time is when the host has it."""
        model, prompt = causal_lm_of(self._module), input_ids.shape[1]
        tokens, times = [], []
        with self._attention(), self._timed():
            cache = self._cache_of(model, prompt + new_tokens)
            one_more = self._one_more(model, cache, len(input_ids), prompt + new_tokens)
            (step,) = _next(model, cache)(self._over(input_ids), torch.arange(prompt, device=self._device)[None])
            for index in range(new_tokens):
                tokens.append(step.to("cpu", copy=True))
                times.append(time.perf_counter() - began)
                if index + 1 < new_tokens:
                    (step,) = one_more(step, torch.full((1, 1), prompt + index, device=self._device))
        return Generation(torch.cat(tokens, dim=1).numpy(), tuple(times))

    def _one_more(self, model: Any, cache: StaticCache, batch: int, length: int) -> Function:
        """From a token and its position to the next one; recorded once for each cache."""
        if self._token is None and length > WARM_CALLS:
            step = torch.zeros(batch, 1, dtype=torch.int64, device=self._device)
            self._token = self._recorded(_next(model, cache), (step, torch.zeros(1, 1, dtype=torch.int64, device=self._device)))
            cache.reset()  # recording has left its own tokens there
        recording = self._token
        return _next(model, cache) if recording is None else lambda *inputs: recording.replay(inputs)

    def _made(self, cache: StaticCache) -> None:
        """What was recorded reads and writes the cache before this one."""
        self._token = None
        if self._blocks:
            hand_out(cache, self._blocks)

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
            self.device_ms = (time.perf_counter() - began) * 1e3
            return
        first, last = (torch.Event(self._device, enable_timing=True) for _ in range(2))
        first.record()
        yield
        last.record()
        last.synchronize()
        self.device_ms = float(first.elapsed_time(last))


def _next(model: Any, cache: StaticCache) -> Function:
    """From token ids and their positions to the likeliest token after them."""

    def step(ids: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
        logits = model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        return (logits[:, -1:].argmax(-1),)

    return step


class CudaGraph:
    """Launches recorded once for inputs at fixed places, replayed after copying new inputs there."""

    def __init__(self, function: Function, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = tuple(t.clone() for t in inputs)
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_CALLS):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = function(*self._inputs)

    def replay(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        for place, value in zip(self._inputs, inputs, strict=True):
            place.copy_(value, non_blocking=True)
        self._graph.replay()
        return self._outputs
