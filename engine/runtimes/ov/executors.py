"""Opened openvino models: numpy in, numpy out, one infer request each."""

from __future__ import annotations

import time

import numpy as np
import openvino as ov

from engine.domain.errors import StageError
from engine.domain.ports import Array, Batch, Generation, Outputs
from engine.domain.workload import KvCache


class _Counted:
    """An infer request that knows how often it ran."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._request: ov.InferRequest | None = compiled.create_infer_request()
        self.inferences = 0

    def counters(self) -> list[ov.ProfilingInfo]:
        """Each node's mean time over all inferences, where the model was compiled with PERF_COUNT."""
        assert self._request is not None
        counters: list[ov.ProfilingInfo] = self._request.get_profiling_info()
        return counters

    def close(self) -> None:
        self._request = None


class TensorExecutor(_Counted):
    """Named tensors in, named tensors out; shapes are the workload's."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        super().__init__(compiled)
        self._inputs = [(port.get_any_name(), port.get_element_type().to_dtype()) for port in compiled.inputs]
        self._outputs = [port.get_any_name() for port in compiled.outputs]

    def infer(self, batch: Batch) -> Outputs:
        request = self._request
        assert request is not None
        arrays = [np.ascontiguousarray(batch[name], dtype) for name, dtype in self._inputs]
        for index, array in enumerate(arrays):
            request.set_input_tensor(index, ov.Tensor(array, shared_memory=True))
        request.infer()
        self.inferences += 1
        return {name: request.get_output_tensor(i).data.copy() for i, name in enumerate(self._outputs)}

    def generate(self, input_ids: Array, new_tokens: int) -> Generation:
        raise StageError("Only a causal LM generates.", mend="Call infer.")


class LmExecutor(_Counted):
    """A causal LM whose KV cache is the request's own state."""

    kv_cache = KvCache.DYNAMIC

    def __init__(self, compiled: ov.CompiledModel) -> None:
        super().__init__(compiled)
        self._last = np.zeros(1, np.int64)

    def infer(self, batch: Batch) -> Outputs:
        ids = batch["input_ids"]
        self._reset()
        return {"logits": self._run(ids, np.arange(ids.shape[1])).copy()}

    def further(self, ids: Array) -> Array:
        """Logits (batch, positions, vocabulary) of positions after those that the cache holds."""
        return self._run(ids, np.arange(ids.shape[1])).copy()

    def generate(self, input_ids: Array, new_tokens: int) -> Generation:
        begun = time.perf_counter()
        self._reset()
        tokens = np.empty((input_ids.shape[0], new_tokens), np.int64)
        times = []
        logits = self._run(input_ids, np.array([input_ids.shape[1] - 1]))
        for index in range(new_tokens):
            tokens[:, index] = logits[:, -1].argmax(axis=-1)
            times.append(time.perf_counter() - begun)
            if index + 1 < new_tokens:
                logits = self._run(tokens[:, index : index + 1], self._last)
        return Generation(tokens, tuple(times))

    def _reset(self) -> None:
        assert self._request is not None
        self._request.reset_state()

    def _run(self, ids: Array, kept: Array) -> Array:
        """Logits (batch, kept, vocabulary) of further positions; overwritten by the next call."""
        request = self._request
        assert request is not None
        given = {"input_ids": ids, "kept": kept, "rows": np.arange(ids.shape[0], dtype=np.int32)}
        arrays = {name: np.ascontiguousarray(array) for name, array in given.items()}
        for name, array in arrays.items():
            request.set_tensor(name, ov.Tensor(array, shared_memory=True))
        request.infer()
        self.inferences += 1
        return np.asarray(request.get_tensor("logits").data)
