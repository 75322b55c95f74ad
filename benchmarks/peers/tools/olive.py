"""Microsoft Olive: a workflow of its passes, run from its Python face.

`variant`: dynamic, static (OnnxConversion, OrtTransformersOptimization for texts, then
onnxruntime's quantizer), or builder_int4 (ModelBuilder of onnxruntime-genai, causal LMs).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from stage import Array, Family
from tools.onnxruntime_quantizer import Session


def prepare(family: Family, variant: str, scratch: Path) -> Any:
    from olive.workflows import run

    text = family.task == "text_encoder"
    if variant.startswith("builder"):
        return _built(family, variant.removeprefix("builder_"), scratch)
    from tools.onnxruntime_quantizer import export

    source = export(family, scratch / "fp32.onnx")
    passes: dict[str, Any] = {}
    if text:
        passes["fuse"] = {"type": "OrtTransformersOptimization", "model_type": "bert", "opt_level": 1}
    passes["quantize"] = {"type": "OnnxDynamicQuantization"}
    config = {
        "input_model": {"type": "ONNXModel", "model_path": str(source)}, "passes": passes,
        "output_dir": str(scratch / "out"), "cache_dir": str(scratch / "cache"), "log_severity_level": 3,
    }  # fmt: skip
    run(config)
    return Session(next((scratch / "out").rglob("*.onnx")), family)


class GenAi:
    """onnxruntime-genai's generator: greedy, a token at a time."""

    def __init__(self, directory: Path, family: Family) -> None:
        import onnxruntime_genai as genai

        file = directory / "genai_config.json"
        about = json.loads(file.read_text())
        about["model"]["decoder"]["session_options"]["intra_op_num_threads"] = family.threads
        file.write_text(json.dumps(about))
        self.genai, self.model = genai, genai.Model(str(directory))

    def _generator(self, length: int) -> Any:
        options = self.genai.GeneratorParams(self.model)
        options.set_search_options(max_length=length, min_length=length, do_sample=False)
        return self.genai.Generator(self.model, options)

    def infer(self, batch: dict[str, Array]) -> Array:
        generator = self._generator(batch["input_ids"].shape[1] + 1)
        generator.append_tokens(batch["input_ids"].astype(np.int32))
        return np.asarray(generator.get_output("logits"), np.float32)

    def generate(self, ids: Array, new_tokens: int) -> list[float]:
        began, times = time.perf_counter(), []
        generator = self._generator(ids.shape[1] + new_tokens)
        generator.append_tokens(ids.astype(np.int32))
        for _ in range(new_tokens):
            generator.generate_next_token()
            times.append(time.perf_counter() - began)
        return times


def _built(family: Family, precision: str, scratch: Path) -> GenAi:
    from olive.workflows import run

    run(
        {
            "input_model": {"type": "HfModel", "model_path": str(family.model)},
            "passes": {"build": {"type": "ModelBuilder", "precision": precision, "int4_accuracy_level": 4}},
            "output_dir": str(scratch / "out"), "cache_dir": str(scratch / "cache"), "log_severity_level": 3,
        }
    )  # fmt: skip
    return GenAi(next((scratch / "out").rglob("genai_config.json")).parent, family)
