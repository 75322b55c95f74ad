"""NNCF and OpenVINO as their guides show them: convert, quantize, compile for latency.

`variant`: int8 (`nncf.quantize`), int8_weights, int4_sym_g64 … (`nncf.compress_weights`), bf16 (neither: what
openvino computes in by itself where the processor has it); a causal LM goes through optimum-intel, which
exports it with its cache as state.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import numpy as np  # noqa: E402
import openvino as ov  # noqa: E402
from stage import Array, Family, Instant, now  # noqa: E402

PACKAGES = ("openvino", "nncf", "torch", "transformers")


def prepare(family: Family, variant: str, scratch: Path) -> Any:
    return _lm(family, variant, scratch) if family.task == "causal_lm" else _single_pass(family, variant, scratch)


def _options(family: Family) -> dict[str, str]:
    return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(family.threads)}


def _saved(model: Any, scratch: Path) -> int:
    """Bytes of its files."""
    ov.save_model(model, scratch / "saved.xml")
    return sum(file.stat().st_size for file in scratch.glob("saved.*"))


class Compiled:
    def __init__(self, model: Any, family: Family, scratch: Path) -> None:
        self.size_bytes = _saved(model, scratch)
        self.request = ov.compile_model(model, "CPU", _options(family)).create_infer_request()

    def infer(self, batch: dict[str, Array]) -> Array:
        return self.request.infer(batch)[0]  # type: ignore[no-any-return]


def _single_pass(family: Family, variant: str, scratch: Path) -> Compiled:
    import nncf
    import torch
    from tools.eager import load_model

    model, timed = load_model(family), family.timed()
    example = {name: torch.from_numpy(array) for name, array in timed.items()}
    converted = ov.convert_model(model, example_input=example)
    names = [port.get_any_name() for port in converted.inputs]
    converted.reshape({name: list(timed[name].shape) for name in names})
    text = family.task == "text_encoder"
    if variant == "int8":
        data = nncf.Dataset([{name: batch[name] for name in names} for batch in family.batches("calibration")])
        kind = nncf.ModelType.TRANSFORMER if text else None
        converted = nncf.quantize(converted, data, model_type=kind)
    elif variant == "int8_weights":
        converted = nncf.compress_weights(converted, mode=nncf.CompressWeightsMode.INT8_ASYM)
    return Compiled(converted, family, scratch)


class OptimumLM:
    """optimum-intel's model driven token by token, as its `generate` does."""

    def __init__(self, model: Any, scratch: Path) -> None:
        self.model, self.size_bytes = model, _saved(model.model, scratch)

    def infer(self, batch: dict[str, Array]) -> Array:
        import torch

        ids = torch.from_numpy(batch["input_ids"])
        self.model.request.reset_state()
        return self.model(input_ids=ids, attention_mask=torch.ones_like(ids), past_key_values=None).logits.numpy()  # type: ignore[no-any-return]

    def generate(self, ids: Array, new_tokens: int) -> list[Instant]:
        import torch

        times, past = [], None
        step, mask = torch.from_numpy(ids), np.ones_like(ids)
        for _ in range(new_tokens):
            answer = self.model(input_ids=step, attention_mask=torch.from_numpy(mask), past_key_values=past)
            past, step = answer.past_key_values, answer.logits[:, -1:].argmax(-1)
            mask = np.concatenate([mask, np.ones((1, 1), mask.dtype)], axis=1)
            times.append(now())
        return times


def _lm(family: Family, variant: str, scratch: Path) -> OptimumLM:
    from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

    given: dict[str, Any] = {"bits": 8, "sym": True}
    if variant.startswith("int4"):
        _, symmetry, group = variant.split("_")
        given = {"bits": 4, "sym": symmetry == "sym", "group_size": int(group[1:]), "ratio": 1.0}
    model = OVModelForCausalLM.from_pretrained(
        family.model, export=True, quantization_config=OVWeightQuantizationConfig(**given), ov_config=_options(family)
    )
    return OptimumLM(model, scratch)
