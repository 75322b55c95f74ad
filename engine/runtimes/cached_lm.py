"""A causal LM whose KV cache enters and leaves the graph, in the two ways the runtimes run best.

`GrowingCacheLM` concatenates (openvino fuses the pattern and keeps the cache as state),
`BufferCacheLM` writes into buffers of a fixed length through onnxruntime's
GroupQueryAttention, so that past and present share memory and nothing is copied.
Both take `kept`, the positions whose logits are wanted: generation needs the last only.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from engine.domain.errors import StageError
from engine.runtimes.rotary import Rotations, noted, rotations_of

_DYNAMIC = torch.export.Dim.DYNAMIC
_PROMPT = 7
_PAST = 12


class CachedLM(nn.Module):
    """Common face: `forward(…) -> (logits, present_0, present_1, …)`, key then value for each layer.

    Keys and values are float32 (batch, key-value heads, positions, head size).
    """

    inputs: tuple[str, ...]

    def __init__(self, model: Any, batch: int) -> None:
        super().__init__()
        self.model = model
        self.batch = batch
        self.cache_shapes = _cache_shapes(model)
        """(key-value heads, head size) of each cache tensor."""

    @property
    def past_names(self) -> list[str]:
        return [f"past_{i}" for i in range(len(self.cache_shapes))]

    @property
    def present_names(self) -> list[str]:
        return [f"present_{i}" for i in range(len(self.cache_shapes))]

    def _past(self) -> list[Tensor]:
        return [torch.zeros(self.batch, heads, _PAST, size) for heads, size in self.cache_shapes]

    def _logits(self, hidden: Tensor, kept: Tensor) -> Tensor:
        return self.model.get_output_embeddings()(hidden.index_select(1, kept))  # type: ignore[no-any-return]

    def examples(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def free_dimensions(self) -> tuple[Any, ...]:
        raise NotImplementedError


class BufferCacheLM(CachedLM):
    """Past and present are one buffer of fixed length, of which `total` positions are valid after the call."""

    inputs = ("input_ids", "position_ids", "kept", "last_index", "total")

    def __init__(self, model: Any, batch: int) -> None:
        super().__init__(model, batch)
        ALL_ATTENTION_FUNCTIONS.register("speedrail_buffer", _buffer_attention)
        model.set_attn_implementation("speedrail_buffer")
        self._rotations = rotations_of(model)

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, kept: Tensor, last_index: Tensor, total: Tensor, past: list[Tensor]
    ) -> tuple[Tensor, ...]:
        store: dict[str, Any] = {"past": past, "last_index": last_index, "total": total, "present": [], "rotations": self._rotations}
        with noted(self.model, self._rotations) if self._rotations else nullcontext():
            hidden = self.model.base_model(input_ids=input_ids, position_ids=position_ids, use_cache=False, store=store)[0]
        present: list[Tensor] = store["present"]
        return (self._logits(hidden, kept), *present)

    def examples(self) -> tuple[Any, ...]:
        ids = torch.zeros(self.batch, _PROMPT, dtype=torch.int64)
        last = torch.full((self.batch,), _PROMPT - 1, dtype=torch.int32)
        total = torch.tensor([_PROMPT], dtype=torch.int32)
        return ids, torch.arange(_PROMPT)[None], torch.arange(3), last, total, self._past()

    def free_dimensions(self) -> tuple[Any, ...]:
        return {1: _DYNAMIC}, {1: _DYNAMIC}, {0: _DYNAMIC}, None, None, [{2: _DYNAMIC}] * len(self.cache_shapes)


class GrowingCacheLM(CachedLM):
    """The cache grows by the new positions at every call; attention is plain SDPA under a causal mask.

    `rows` reorders the cache's batch rows (always 0, 1, …): openvino fuses attention with
    its cache only where it finds this gather.
    """

    inputs = ("input_ids", "kept", "rows")

    def __init__(self, model: Any, batch: int) -> None:
        super().__init__(model, batch)
        if getattr(model.config, "sliding_window", None) and getattr(model.config, "use_sliding_window", True):
            raise StageError(
                f"The sliding window of a {type(model).__name__} is not supported by openvino here.",
                mend="Run it on onnxruntime, eager or inductor instead.",
            )
        model.set_attn_implementation("sdpa")

    def forward(self, input_ids: Tensor, kept: Tensor, rows: Tensor, past: list[Tensor]) -> tuple[Tensor, ...]:
        cache = _GrowingCache([tensor.index_select(0, rows) for tensor in past])
        before = past[0].shape[2]
        positions = torch.arange(input_ids.shape[1]) + before
        mask = torch.arange(before + input_ids.shape[1])[None, :] <= positions[:, None]
        hidden = self.model.base_model(
            input_ids=input_ids, position_ids=positions[None], past_key_values=cache, use_cache=True,
            attention_mask=mask[None, None],
        )[0]  # fmt: skip
        return (self._logits(hidden, kept), *cache.tensors)

    def examples(self) -> tuple[Any, ...]:
        return torch.zeros(self.batch, _PROMPT, dtype=torch.int64), torch.arange(3), torch.arange(self.batch, dtype=torch.int32), self._past()

    def free_dimensions(self) -> tuple[Any, ...]:
        past = torch.export.Dim("past", min=0)
        return {1: _DYNAMIC}, {0: _DYNAMIC}, None, [{2: past}] * len(self.cache_shapes)


class _GrowingCache:
    """The part of transformers' Cache that attention layers call."""

    is_compileable = False

    def __init__(self, past: list[Tensor]) -> None:
        self.tensors = list(past)

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.tensors[2 * layer] = torch.cat([self.tensors[2 * layer], key], dim=2)
        self.tensors[2 * layer + 1] = torch.cat([self.tensors[2 * layer + 1], value], dim=2)
        return self.tensors[2 * layer], self.tensors[2 * layer + 1]

    def get_seq_length(self, layer: int = 0) -> int:
        return int(self.tensors[2 * layer].shape[2])


def _buffer_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *,
    scaling: float, store: dict[str, Any], sliding_window: int | None = None, softcap: float | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """onnxruntime's GroupQueryAttention: causal, rotates query and key, appends key and value to the buffers in place."""
    batch, heads, _length, size = query.shape
    rotations: Rotations | None = store["rotations"]
    unturned = rotations.before(query, key) if rotations else None
    tables = [rotations.cos, rotations.sin] if rotations and unturned else []
    query, key = unturned or (query, key)
    past_key, past_value = store["past"][2 * module.layer_idx : 2 * module.layer_idx + 2]
    flat = _flat(query)
    answer, new_key, new_value = torch.onnx.ops.symbolic_multi_out(
        "com.microsoft::GroupQueryAttention",
        [flat, _flat(key), _flat(value), past_key, past_value, store["last_index"], store["total"], *tables],
        {
            "num_heads": heads, "kv_num_heads": key.shape[1], "scale": scaling, "softcap": softcap or 0.0,
            "local_window_size": sliding_window or -1, "do_rotary": int(bool(tables)),
        },
        dtypes=[torch.float32] * 3, shapes=[flat.shape, past_key.shape, past_value.shape], version=1,
    )  # fmt: skip
    store["present"] += [new_key, new_value]
    return answer.reshape(batch, -1, heads, size), None


def _flat(states: Tensor) -> Tensor:
    """(batch, heads, sequence, size) to (batch, sequence, heads × size)."""
    return states.transpose(1, 2).reshape(states.shape[0], -1, states.shape[1] * states.shape[3])


def _cache_shapes(model: Any) -> list[tuple[int, int]]:
    """Key and value shapes of each layer, read from the projections, which pruning may have cut."""
    shapes: list[tuple[int, int]] = []
    for module in model.modules():
        if hasattr(module, "k_proj") and hasattr(module, "v_proj") and hasattr(module, "layer_idx"):
            size = int(module.head_dim)
            shapes += [(module.k_proj.out_features // size, size), (module.v_proj.out_features // size, size)]
    if not shapes:
        raise StageError(
            f"The key-value cache of a {type(model).__name__} is not laid out as known here.",
            mend="Run it on eager or inductor instead.",
        )
    return shapes
