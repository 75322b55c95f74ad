"""Opened ONNX files: numpy in, numpy out, nothing copied that need not be."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnxruntime

from engine.domain.errors import StageError
from engine.domain.ports import Array, Batch, Generation, Outputs
from engine.domain.workload import KvCache

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def open_session(
    file: Path, threads: int, fixed: dict[str, int] | None = None, profile_prefix: str = "", device: str = "cpu"
) -> onnxruntime.InferenceSession:
    """A session on `threads` threads; `fixed` sets free dimensions by name before the graph is optimised.

    With a `profile_prefix` it counts its operators and writes them to a file of that beginning.
    device: as torch.accelerator names it. Raises StageError when onnxruntime refuses the file or the device.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if profile_prefix:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    for name, size in (fixed or {}).items():
        options.add_free_dimension_override_by_name(name, size)
    provider = _PROVIDERS.get(device, "")
    if provider not in onnxruntime.get_available_providers():
        raise StageError(f"The installed onnxruntime has no provider for {device}.", mend="pip install onnxruntime-gpu in place of onnxruntime.")
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=[provider])
    except Exception as error:
        raise StageError(f"onnxruntime does not open {file.name}.", where=file.name, detail=str(error)) from error
    if provider not in session.get_providers():
        # it says so in its log only, and would be timed on the CPU
        raise StageError(f"onnxruntime fell back from {provider} to {', '.join(session.get_providers())}.", mend="python -m engine doctor")
    return session


class TensorExecutor:
    """Named tensors in, named tensors out."""

    def __init__(self, session: onnxruntime.InferenceSession, outputs: list[str]) -> None:
        self._session: onnxruntime.InferenceSession | None = session
        self._outputs = outputs
        self._dtypes = {i.name: _numpy_type(i.type) for i in session.get_inputs()}

    def infer(self, batch: Batch) -> Outputs:
        assert self._session is not None
        fed = {name: _as(batch[name], dtype) for name, dtype in self._dtypes.items()}
        return dict(zip(self._outputs, self._session.run(None, fed), strict=True))

    def generate(self, input_ids: Array, new_tokens: int) -> Generation:
        raise StageError("Only a causal LM generates.", mend="Call infer.")

    def close(self) -> None:
        self._session = None


class LmExecutor:
    """A causal LM with its KV cache in buffers that past and present share."""

    kv_cache = KvCache.STATIC

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session: onnxruntime.InferenceSession | None = session
        self._shapes = {i.name: tuple(i.shape) for i in session.get_inputs() if i.name.startswith("past_")}
        self._batch = int(next(iter(self._shapes.values()))[0])
        self._caches: dict[int, _Call] = {}

    def infer(self, batch: Batch) -> Outputs:
        ids = batch["input_ids"]
        return {"logits": self._call(ids.shape[1]).run(ids, 0, np.arange(ids.shape[1])).copy()}

    def generate(self, input_ids: Array, new_tokens: int) -> Generation:
        begun = time.perf_counter()
        prompt = input_ids.shape[1]
        call = self._call(prompt + new_tokens)
        tokens = np.empty((input_ids.shape[0], new_tokens), np.int64)
        times = []
        logits = call.run(input_ids, 0, np.array([prompt - 1]))
        for index in range(new_tokens):
            logits[:, -1].argmax(axis=-1, out=tokens[:, index])
            times.append(time.perf_counter() - begun)
            if index + 1 < new_tokens:
                logits = call.step(tokens[:, index : index + 1], prompt + index)
        return Generation(tokens, tuple(times))

    def close(self) -> None:
        self._caches.clear()
        self._session = None

    def _call(self, length: int) -> _Call:
        """Buffers for `length` positions; only the latest length is kept."""
        assert self._session is not None
        if length not in self._caches:
            self._caches.clear()
            self._caches[length] = _Call(self._session, self._shapes, self._batch, length)
        return self._caches[length]


class _Call:
    """Bound inputs and outputs for caches of one length."""

    def __init__(self, session: onnxruntime.InferenceSession, shapes: dict[str, tuple[int, ...]], batch: int, length: int) -> None:
        self._session = session
        self._batch = batch
        self._buffers = {name: _on_cpu(np.zeros((batch, heads, length, size), np.float32)) for name, (_, heads, _, size) in shapes.items()}
        self._last = np.zeros(batch, np.int32)
        self._total = np.zeros(1, np.int32)
        self._token = np.zeros((batch, 1), np.int64)
        self._position = np.zeros((1, 1), np.int64)
        vocabulary = session.get_outputs()[0].shape[2]
        self._next = np.zeros((batch, 1, vocabulary), np.float32)
        self._stepping = self._binding(self._token, self._position, np.zeros(1, np.int64))
        self._stepping.bind_ortvalue_output("logits", _on_cpu(self._next))

    def run(self, ids: Array, start: int, kept: Array) -> Array:
        """Logits (batch, kept, vocabulary) of `ids` placed at `start`."""
        length = ids.shape[1]
        self._place(start + length)
        binding = self._binding(np.ascontiguousarray(ids, np.int64), np.arange(start, start + length)[None], kept)
        binding.bind_output("logits")
        self._session.run_with_iobinding(binding)
        return np.asarray(binding.get_outputs()[-1].numpy())

    def step(self, ids: Array, start: int) -> Array:
        """Logits (batch, 1, vocabulary) of one more token; overwritten by the next step."""
        self._place(start + 1)
        self._token[:] = ids
        self._position[:] = start
        self._session.run_with_iobinding(self._stepping)
        return self._next

    def _place(self, total: int) -> None:
        self._last[:] = total - 1
        self._total[:] = total

    def _binding(self, ids: Array, positions: Array, kept: Array) -> onnxruntime.IOBinding:
        binding = self._session.io_binding()
        given = {"input_ids": ids, "position_ids": positions, "kept": kept, "last_index": self._last, "total": self._total}
        for name, array in given.items():
            binding.bind_ortvalue_input(name, _on_cpu(array))
        for name, buffer in self._buffers.items():
            binding.bind_ortvalue_input(name, buffer)
            binding.bind_ortvalue_output(name.replace("past", "present"), buffer)
        return binding


def _on_cpu(array: Array) -> onnxruntime.OrtValue:
    """Shares the array's memory: what is written to the array, the session reads."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _as(array: Array, dtype: np.dtype[np.generic]) -> Array:
    return array if array.dtype == dtype else array.astype(dtype)


def _numpy_type(name: str) -> np.dtype[np.generic]:
    kind = name.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(kind, kind))
