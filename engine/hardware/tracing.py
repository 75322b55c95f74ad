"""The operators of an uploaded model under a workload, found by running it on tensors without data.

Torch; child processes only. The modules are those that engine.tasks.loading makes, their
weights replaced by fake tensors: shapes and devices, no memory and no arithmetic, so
that a model that would not fit here is traced all the same.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import StaticCache
from transformers.initialization import no_init_weights

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.deployment import Variant
from engine.domain.errors import StageError
from engine.domain.workload import Workload
from engine.hardware.onnx_tracing import trace_onnx
from engine.hardware.operators import Gemm, Network, Operator, OperatorKind, attention, conv2d
from engine.intake.skeleton import model_class
from engine.tasks.loading import VARIANT, gguf_file, load_module
from engine.tasks.traceable import Traceable, parameters_of, traceable_for


def network_of(variant: Variant, card: ModelCard, workload: Workload) -> Network:
    """The operators of what lies in a directory. Weights are read only where a stage changed the shapes.

    Raises StageError when the model cannot be built, run or inferred.
    """
    directory = Path(variant.directory)
    if card.format is ArtifactFormat.ONNX:
        return trace_onnx(directory / "model.onnx", card, workload)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    if (directory / VARIANT).exists():
        return trace(load_module(variant, card), card, workload, mode)
    return _trace_fake(_empty_module(directory, card, mode), card, workload, mode)


def trace(module: Traceable, card: ModelCard, workload: Workload, mode: FakeTensorMode | None = None) -> Network:
    """The operators of a module that is at hand; it is left as it is. Raises StageError."""
    mode = mode or FakeTensorMode(allow_non_fake_inputs=True)
    with FakeCopyMode(mode):
        fake = copy.deepcopy(module)
    return _trace_fake(fake, card, workload, mode)


def _empty_module(directory: Path, card: ModelCard, mode: FakeTensorMode) -> Traceable:
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if card.format is ArtifactFormat.GGUF:
        options["gguf_file"] = gguf_file(directory).name
    config = transformers.AutoConfig.from_pretrained(directory, **options)
    kind = model_class(config, card.task)
    config._attn_implementation = "sdpa" if kind._supports_sdpa else "eager"
    with mode, no_init_weights():
        model = kind(config)
        model.tie_weights()
        if card.task is TaskId.TEXT_ENCODER and isinstance(getattr(model, "pooler", None), nn.Module):
            model.pooler = None
        return traceable_for(model, card)


def _trace_fake(module: Traceable, card: ModelCard, workload: Workload, mode: FakeTensorMode) -> Network:
    try:
        with mode, torch.no_grad():
            if card.task is TaskId.CAUSAL_LM:
                return _generation(module, card, workload)
            recorder = _Recorder(module)
            inputs = [_input(spec.name, spec.shape, card, workload) for spec in card.inputs]
            with recorder.recording():
                module(*inputs)
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise StageError(
            f"The operators of this {card.architecture} cannot be found by running it without data.",
            mend="Projections are not to be had for it; measuring it is.",
            detail=f"{type(error).__name__}: {error}",
        ) from error
    return Network(
        name=card.architecture, batch=workload.batch_size, sequence=workload.sequence_length if card.task.takes_text else 1,
        parameters=parameters_of(module), forward=tuple(recorder.operators),
    )  # fmt: skip


def _input(name: str, shape: tuple[int | str, ...], card: ModelCard, workload: Workload) -> Tensor:
    if card.task is TaskId.IMAGE_CLASSIFIER:
        side = workload.image_size or card.image_size or 224
        return torch.zeros(workload.batch_size, card.num_channels or 3, side, side)
    made = torch.zeros if name == "token_type_ids" else torch.ones
    return made(workload.batch_size, workload.sequence_length, dtype=torch.int64)


def _generation(module: Traceable, card: ModelCard, workload: Workload) -> Network:
    """The prompt's pass and one step at the mean context, over a cache of fixed length."""
    model: Any = module.model
    batch, prompt, steps = workload.batch_size, workload.sequence_length, max(workload.new_tokens - 1, 0)
    context = prompt + (steps + 1) // 2
    forward = _pass(module, batch, prompt, prompt)
    decode = _pass(module, batch, 1, context) if steps else ()
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Network(
        name=card.architecture, batch=batch, sequence=prompt, parameters=parameters_of(module), forward=forward,
        decode=decode, steps=steps, cache_elements=2 * config.num_hidden_layers * heads * size,
    )  # fmt: skip


def _pass(module: Traceable, batch: int, positions: int, context: int) -> tuple[Operator, ...]:
    model: Any = module.model
    cache = StaticCache(config=model.config, max_cache_len=context)
    ids = torch.zeros(batch, positions, dtype=torch.int64)
    where = torch.arange(context - positions, context)[None]
    recorder = _Recorder(module)
    with recorder.recording():
        model(input_ids=ids, position_ids=where, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return tuple(recorder.operators)


class _Recorder:
    """Keeps an operator for everything that a kernel would be launched for."""

    def __init__(self, module: nn.Module) -> None:
        self.operators: list[Operator] = []
        self._module = module
        self._weights = {_storage(t) for t in (*module.parameters(), *module.buffers())}
        self._path: list[str] = [""]

    @contextmanager
    def recording(self) -> Iterator[None]:
        hooks = []
        for name, part in self._module.named_modules():
            path = name.removeprefix("model.")
            hooks.append(part.register_forward_pre_hook(lambda *_, path=path: self._path.append(path)))
            hooks.append(part.register_forward_hook(lambda *_: self._path.pop() and None))
        try:
            with _Attention(self), _Kernels(self):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def attended(self, query: Tensor, key: Tensor, causal: bool) -> None:
        batch, heads, queries, size = query.shape
        self.operators.append(
            attention(self._path[-1], batch, heads, key.shape[1], size, queries, key.shape[2], causal=causal)
        )

    def called(self, op: str, tags: Iterable[torch.Tag], arguments: list[Tensor], outputs: list[Tensor]) -> None:
        name = self._path[-1]
        weights = [t for t in arguments if _storage(t) in self._weights]
        inputs = [t for t in arguments if _storage(t) not in self._weights]
        written, read = sum(t.numel() for t in outputs), sum(map(_elements, inputs))
        parameters = sum(map(_elements, weights))
        if op in _PRODUCTS:
            self.operators.append(_product(name, arguments, outputs[0], parameters, read))
        elif op in _CONVOLUTIONS and arguments[1].dim() == 4:
            self.operators.append(_convolution(name, arguments, outputs[0], parameters))
        else:
            kind = _kind(op, tags)
            if op in _WRITES:  # only what is written anew crosses the memory
                written = read = arguments[-1].numel()
            if kind is OperatorKind.EMBEDDING:
                parameters, read = written, sum(t.numel() for t in inputs)
            self.operators.append(
                Operator(
                    name=name, kind=kind, flops=0 if kind in _MOVES else max(written, read), weight_elements=parameters,
                    input_elements=read, output_elements=written, function=op,
                )
            )  # fmt: skip


class _Attention(TorchFunctionMode):
    """One operator for scaled dot-product attention, whatever it would be made of here."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = args[:3]
        self._recorder.attended(query, key, bool((kwargs or {}).get("is_causal", False)))
        return query.new_empty(*query.shape[:-1], value.shape[-1])


class _Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator below autograd; views and the making of empty tensors launch nothing."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recorder = recorder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        op = func.overloadpacket.__name__
        arguments = [t for t in _flat((*args, *(kwargs or {}).values())) if isinstance(t, Tensor)]
        outputs = [t for t in _flat((result,)) if isinstance(t, Tensor)]
        if arguments and outputs and not func.is_view and op not in _NO_KERNEL:
            self._recorder.called(op, func.tags, arguments, outputs)
        return result


_PRODUCTS = frozenset({"mm", "addmm", "bmm", "baddbmm", "linear"})
_CONVOLUTIONS = frozenset({"convolution", "conv2d"})
_NORMS = frozenset({
    "native_layer_norm", "native_group_norm", "native_batch_norm", "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm", "rms_norm", "_fused_rms_norm",
})  # fmt: skip
_SOFTMAXES = frozenset({"_softmax", "_log_softmax", "_safe_softmax"})
_WRITES = frozenset({"copy_", "index_copy_", "index_put_"})
_NO_KERNEL = frozenset({
    "detach", "lift_fresh", "_unsafe_view", "new_empty", "empty_like", "new_zeros", "new_ones", "alias", "_local_scalar_dense",
})  # fmt: skip
_MOVES = frozenset({OperatorKind.OTHER, OperatorKind.EMBEDDING})


def _kind(op: str, tags: Iterable[torch.Tag]) -> OperatorKind:
    if op == "embedding":
        return OperatorKind.EMBEDDING
    if op in _NORMS:
        return OperatorKind.NORM
    if op in _SOFTMAXES:
        return OperatorKind.SOFTMAX
    if torch.Tag.pointwise in tags or op in ("mean", "sum", "amax", "var_mean"):
        return OperatorKind.ELEMENTWISE
    return OperatorKind.OTHER


def _product(name: str, arguments: list[Tensor], output: Tensor, weights: int, read: int) -> Operator:
    """Of the last two arguments; addmm's first one is the bias. Weights repeated over a batch are one product."""
    left = arguments[0] if len(arguments) == 2 else arguments[-2]
    k, n = left.shape[-1], output.shape[-1]
    groups = left.shape[0] if arguments[-1].dim() == 3 and not weights else 1
    gemm = Gemm(output.numel() // n // groups, k, n, groups)
    return Operator(
        name=name, kind=OperatorKind.MATMUL, flops=2 * gemm.macs, weight_elements=weights, input_elements=read,
        output_elements=output.numel(), gemm=gemm,
    )  # fmt: skip


def _convolution(name: str, arguments: list[Tensor], output: Tensor, weights: int) -> Operator:
    image, kernel = arguments[:2]
    return conv2d(
        name, image.shape[0], image.shape[1], kernel.shape[0], (kernel.shape[2], kernel.shape[3]),
        (output.shape[2], output.shape[3]), (image.shape[2], image.shape[3]), groups=image.shape[1] // kernel.shape[1],
        bias=weights > prod(kernel.shape),
    )  # fmt: skip


def _elements(tensor: Tensor) -> int:
    """What is really read: an expanded tensor has no more than its storage."""
    return min(tensor.numel(), tensor.untyped_storage().nbytes() // tensor.element_size())


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _flat(value)
        else:
            yield value
