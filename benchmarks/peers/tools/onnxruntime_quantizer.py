"""onnxruntime's quantizers as its documentation shows them, on torch's own ONNX export.

`variant`: fp32, dynamic (`quantize_dynamic`), static (`quantize_static`, QDQ). For a causal LM see `olive`,
which drives onnxruntime-genai's model builder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from stage import Array, Family

PACKAGES = ("onnxruntime", "onnx", "torch", "transformers")


class Session:
    def __init__(self, file: Path, family: Family) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = family.threads
        self.size_bytes = file.stat().st_size
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.names = [value.name for value in self.session.get_inputs()]

    def infer(self, batch: dict[str, Array]) -> Array:
        return self.session.run(None, {name: batch[name] for name in self.names})[0]  # type: ignore[no-any-return]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: list[dict[str, Array]]) -> None:
        self.batches = iter(batches)

    def get_next(self) -> dict[str, Array] | None:
        return next(self.batches, None)


def export(family: Family, file: Path) -> Path:
    """The model by torch's exporter at the timed shape."""
    import torch
    from tools.eager import load_model

    model, timed = load_model(family), family.timed()
    with torch.no_grad():
        torch.onnx.export(
            model, kwargs={n: torch.from_numpy(np.ascontiguousarray(a)) for n, a in timed.items()}, f=str(file), dynamo=True,
            input_names=list(timed), external_data=False, verbose=False,
        )  # fmt: skip
    return file


def prepare(family: Family, variant: str, scratch: Path) -> Any:
    fp32, ready, target = export(family, scratch / "fp32.onnx"), scratch / "ready.onnx", scratch / "int8.onnx"
    if variant == "fp32":
        return Session(fp32, family)
    quant_pre_process(fp32, ready, skip_symbolic_shape=True)
    if variant == "dynamic":
        quantize_dynamic(ready, target, weight_type=QuantType.QInt8, per_channel=True)
    else:
        # u8 activations with s8 weights: what its documentation advises for processors with VNNI
        quantize_static(ready, target, _Reader(family.batches("calibration")), per_channel=True, activation_type=QuantType.QUInt8)
    return Session(target, family)
