"""Operators of an opened torch module, eager or compiled, by torch.profiler.

On a device an operator's time is that of the kernels it launched there; what the device was idle between them is the row
between operators. Written, unmeasured there: tests play torch's records of a device.

The executor that was timed is profiled, after its last timed call. An eager module tells
which layer an operator belongs to by marks around its submodules; compiled code has its
generated kernels marked by wrapping them where the generated program calls them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, record_function

from engine.domain.operators import OVERHEAD, OperatorProfile, OperatorTime, profile_of
from engine.executors.torch_local import EagerExecutor
from engine.hardware.operators import OperatorKind
from engine.measure.work import Shape, Tensor, convolved_shape, flops_of, kind_of, product_shape
from engine.runtimes.integer_layers import IntegerLinear

_LAYER, _KERNEL, _TRITON = "layer: ", "kernel: ", "triton_"
_ACTIVITIES = {"cpu": [], "cuda": [ProfilerActivity.CUDA], "xpu": [ProfilerActivity.XPU]}
"""What sees the kernels of a device, beside the host's operators."""
_NARROW_KERNELS = {
    "linear_with_input_q_dq_qweight_dq_output_fp32": "int8", "_int_mm": "int8", "_weight_int8pack_mm": "fp32", "_weight_int4pack_mm_for_cpu": "fp32",
    "_weight_int4pack_mm": "bf16", "_scaled_mm": "fp8",
}  # fmt: skip
"""Arithmetic of torch's kernels for few bits; those that only store them compute in floating point."""
_HEAVY = ("linear", "addmm", "mm", "bmm", "matmul", "convolution", "conv2d", "scaled_dot_product_attention")
_ITEM_BYTES = {
    "float": 4.0, "double": 8.0, "c10::BFloat16": 2.0, "c10::Half": 2.0, "signed char": 1.0, "unsigned char": 1.0, "int": 4.0,
    "long int": 8.0, "bool": 1.0, "c10::Float8_e4m3fn": 1.0, "c10::Float8_e4m3fnuz": 1.0,
}  # fmt: skip
"""Of one element, by the profiler's word for its type."""
_Key = tuple[str, str, str, tuple[tuple[int, ...], ...]]
_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def profile(executor: EagerExecutor, run: Callable[[], object], calls: int) -> OperatorProfile | None:
    """`run` calls the executor once. The profile is of `calls` such calls, after one untimed. None where a device shows no kernels."""
    module, device, busy = executor.module, executor.device_type, executor.device_ms
    if device not in _ACTIVITIES:
        return None
    with _marked_kernels() if executor.compiled else _marked_layers(module), executor.launching():
        run()
        with torch.profiler.profile(activities=[ProfilerActivity.CPU, *_ACTIVITIES[device]], record_shapes=True) as profiler:
            for _ in range(calls):
                run()
    assert profiler.profiler is not None, "it has just been stopped"
    # what torch makes of these records drops the types of the tensors
    types = {e.correlation_id(): e.dtypes() for e in profiler.profiler.kineto_results.events()}
    packed = {path.removeprefix("model."): m.shape for path, m in module.named_modules() if isinstance(m, IntegerLinear)}
    events = [e for e in profiler.events() or [] if e.device_type == DeviceType.CPU]
    clock = _HOST if device == "cpu" else _DEVICE
    found = list(_operators(events, types, packed, calls, _arithmetic(executor), clock))
    idle = busy - sum(o.ms for o in found)
    if clock is _DEVICE and found and idle > 0:
        found.append(OperatorTime(type=OVERHEAD, name=OVERHEAD, calls=1, ms=idle))
    return profile_of("torch.profiler", found, calls) if found else None


@dataclass(frozen=True, slots=True)
class _Clock:
    """Names of an event's times, in µs: with all that it called, and its own."""

    total: str
    own: str

    def all(self, events: Sequence[Any]) -> float:
        return sum(float(getattr(event, self.total)) for event in events)


_HOST = _Clock("cpu_time_total", "self_cpu_time_total")
_DEVICE = _Clock("device_time_total", "self_device_time_total")
"""Of the kernels that were launched; copies of memory are among them."""


def _arithmetic(executor: EagerExecutor) -> str:
    """Number format of its products, where no kernel has one of its own."""
    if executor.dtype is torch.float32 and executor.device_type == "cuda" and torch.get_float32_matmul_precision() == "high":
        return "tf32" if torch.cuda.is_tf32_supported() else "fp32"
    return _NAMES.get(executor.dtype, str(executor.dtype))


def _operators(
    events: Sequence[Any], types: Mapping[int, Sequence[str]], packed: Mapping[str, Shape], calls: int, dtype: str, clock: _Clock
) -> Iterator[OperatorTime]:
    """Operators that no other operator called, with all that happened inside them.

    types: of an event's tensors. packed: shapes (out, in) of int8 weights that a kernel keeps to itself, by layer.
    """
    alike: dict[_Key, list[Any]] = defaultdict(list)
    between = 0.0
    for event in events:
        if not _is_operator(event):
            between += float(getattr(event, clock.own))
        elif not _inside_operator(event):
            alike[_type(event), _layer(event), _mark(event), _shapes(event)].append(event)
    for (type_, layer, mark, shapes), found in alike.items():
        if clock is _DEVICE and not clock.all(found):
            continue  # it launched nothing
        kernel = mark or _kernel(found, clock)
        hidden = [Tensor(packed[layer], 1.0)] if layer in packed and len(shapes) == 1 else []
        flops, bytes_ = _work(type_, found[0], types.get(found[0].id, ()), hidden)
        yield OperatorTime(
            type=type_, name=layer or kernel, layer=layer, calls=max(1, round(len(found) / calls)),
            ms=clock.all(found) / 1e3 / calls, kernel=kernel,
            precision=_precision(type_, kernel, dtype), shapes=shapes,
            flops=flops * len(found) / calls, bytes=bytes_ * len(found) / calls,
        )  # fmt: skip
    if between:
        yield OperatorTime(type=OVERHEAD, name=OVERHEAD, calls=1, ms=between / 1e3 / calls)


def _is_operator(event: Any) -> bool:
    return "::" in event.name or bool(_mark(event))


def _inside_operator(event: Any) -> bool:
    parent = event.cpu_parent
    while parent is not None:
        if _is_operator(parent):
            return True
        parent = parent.cpu_parent
    return False


def _type(event: Any) -> str:
    if _mark(event):
        return "fused kernel"
    return str(event.name).rpartition("::")[2]


def _mark(event: Any) -> str:
    """The name of a kernel that inductor generated; its triton kernels mark themselves."""
    name = str(event.name)
    return name.removeprefix(_KERNEL) if name.startswith((_KERNEL, _TRITON)) else ""


def _kernel(alike: Sequence[Any], clock: _Clock) -> str:
    """The callee with the most time of its own: what an operator such as linear came down to."""
    times: dict[str, float] = defaultdict(float)
    waiting = list(alike)
    while waiting:
        event = waiting.pop()
        times[str(event.name)] += float(getattr(event, clock.own))
        waiting.extend(event.cpu_children)
    return max(times, key=lambda name: times[name])


def _layer(event: Any) -> str:
    parent = event.cpu_parent
    while parent is not None:
        if parent.name.startswith(_LAYER):
            return str(parent.name).removeprefix(_LAYER)
        parent = parent.cpu_parent
    return ""


def _shapes(event: Any) -> tuple[tuple[int, ...], ...]:
    given = event.input_shapes or []
    return tuple(tuple(s) for s in given if isinstance(s, (list, tuple)) and s and all(isinstance(n, int) for n in s))


def _work(type_: str, event: Any, types: Sequence[str], hidden: Sequence[Tensor]) -> tuple[float, float]:
    """FLOPs and bytes of one call; nothing where shapes do not tell, as those of a fused kernel. hidden: inputs not recorded."""
    given = [
        Tensor(tuple(shape), _ITEM_BYTES[kind])
        for shape, kind in zip(event.input_shapes or (), types, strict=False) if shape and kind in _ITEM_BYTES
    ]  # fmt: skip
    given += hidden if kind_of(type_) is OperatorKind.MATMUL else []
    inputs = [tensor.shape for tensor in given]
    output = _output_shape(type_, event, inputs)
    if output is None:
        return 0.0, 0.0
    return flops_of(type_, inputs, output), sum(t.bytes for t in given) + Tensor(output, given[0].item_bytes).bytes


def _output_shape(type_: str, event: Any, inputs: Sequence[Shape]) -> Shape | None:
    """What the records leave out, from the inputs; pointwise operators write what their largest input is."""
    if not inputs:
        return None
    match kind_of(type_):
        case OperatorKind.MATMUL:
            return product_shape(type_, inputs)
        case OperatorKind.CONV2D:
            lists = [given for given in event.concrete_inputs if isinstance(given, list)][:3]
            if len(inputs) < 2 or [len(each) for each in lists] != [len(inputs[0]) - 2] * 3:
                return None
            stride, padding, dilation = lists if "pointwise" not in type_ else (lists[1], lists[0], lists[2])
            return convolved_shape(inputs[0], inputs[1], stride, padding, dilation)
        case OperatorKind.ATTENTION:
            return inputs[0]
        case _:
            return max(inputs, key=prod)


def _precision(type_: str, kernel: str, dtype: str) -> str:
    known = _NARROW_KERNELS.get(kernel.rpartition("::")[2]) or _NARROW_KERNELS.get(type_)
    if known:
        return known
    return dtype if any(type_.endswith(name) or f"_{name}" in type_ for name in _HEAVY) else ""


@contextmanager
def _marked_layers(module: nn.Module) -> Iterator[None]:
    """A range of the profile around every submodule that runs, under its path."""
    ranges: list[record_function] = []

    def enter(path: str) -> Callable[..., None]:
        def begin(*_: Any) -> None:
            ranges.append(record_function(_LAYER + path))
            ranges[-1].__enter__()  # type: ignore[no-untyped-call]

        return begin

    def leave(*_: Any) -> None:
        ranges.pop().__exit__(None, None, None)

    with ExitStack() as hooks:
        for path, child in module.named_modules():
            if path:
                hooks.callback(child.register_forward_pre_hook(enter(path.removeprefix("model."))).remove)
                hooks.callback(child.register_forward_hook(leave, always_call=True).remove)
        yield


@contextmanager
def _marked_kernels() -> Iterator[None]:
    """Inductor's generated kernels are globals of its generated modules; a wrapper around each names it."""
    from torch._inductor.codecache import PyCodeCache

    with ExitStack() as undo:
        for generated in PyCodeCache.modules:
            for name, kernel in list(vars(generated).items()):
                if name.startswith("cpp_fused") and callable(kernel):
                    setattr(generated, name, _marked(name, kernel))
                    undo.callback(setattr, generated, name, kernel)
        yield


def _marked(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        with record_function(_KERNEL + name):
            return kernel(*args)

    return call


def weights_bytes(executor: EagerExecutor) -> int:
    """Of all parameters and buffers, shared ones once."""
    held = {t.data_ptr(): t.nbytes for t in (*executor.module.parameters(), *executor.module.buffers())}
    return sum(held.values())


def activations_bytes(run: Callable[[], object]) -> int:
    """The most that torch's allocator handed out at one time during a call, beyond what it had handed out before."""
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    assert profiler.profiler is not None, "it has just been stopped"
    results = profiler.profiler.kineto_results
    steps = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    held = most = 0
    for _, size in steps:
        held += size
        most = max(most, held)
    return most
