"""Microsoft Olive: a workflow of its passes, run from its Python face.

`variant`: dynamic, static (OnnxConversion, OrtTransformersOptimization for texts, then
onnxruntime's quantizer), or builder_int4 (ModelBuilder of onnxruntime-genai, causal LMs).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from stage import Array, Family, Instant, now
from tools.onnxruntime_quantizer import Session, export

os.environ["OLIVE_DISABLE_TELEMETRY"] = "1"
PACKAGES = ("olive-ai", "onnxruntime", "onnxruntime-genai", "onnx", "torch", "transformers")


def prepare(family: Family, variant: str, scratch: Path) -> Any:
    if variant.startswith("builder"):
        return _built(family, variant.removeprefix("builder_"), scratch)
    source = export(family, scratch / "fp32.onnx")
    passes: dict[str, Any] = {}
    if family.task == "text_encoder":
        passes["fuse"] = {"type": "OrtTransformersOptimization", "model_type": "bert", "opt_level": 1}
    config: dict[str, Any] = {}
    if variant == "dynamic":
        passes["quantize"] = {"type": "OnnxDynamicQuantization", "per_channel": True}
    else:
        passes["quantize"] = {
            "type": "OnnxStaticQuantization", "data_config": "calibration", "per_channel": True, "activation_type": "uint8", "precision": "int8",
        }  # fmt: skip
        config["data_configs"] = [_calibration(family)]
    _run(config | {"input_model": {"type": "ONNXModel", "model_path": str(source)}, "passes": passes}, scratch)
    return Session(next((scratch / "out").rglob("*.onnx")), family)


def _run(config: dict[str, Any], scratch: Path) -> None:
    from olive.workflows import run

    run(config | {"output_dir": str(scratch / "out"), "cache_dir": str(scratch / "cache"), "log_severity_level": 3})


def _calibration(family: Family) -> dict[str, Any]:
    """Olive's description of the calibration batches, which are batches already."""
    from olive.data.registry import Registry

    @Registry.register_dataset("given_batches")  # type: ignore[untyped-decorator]
    def dataset(**_: Any) -> list[dict[str, Array]]:
        return family.batches("calibration")

    @Registry.register_dataloader("as_they_are")  # type: ignore[untyped-decorator]
    def dataloader(batches: list[dict[str, Array]], **_: Any) -> list[dict[str, Array]]:
        return batches

    @Registry.register_pre_process("untouched")  # type: ignore[untyped-decorator]
    def pre_process(batches: list[dict[str, Array]], **_: Any) -> list[dict[str, Array]]:
        return batches

    return {
        "name": "calibration", "load_dataset_config": {"type": "given_batches"}, "pre_process_data_config": {"type": "untouched"},
        "dataloader_config": {"type": "as_they_are"},
    }  # fmt: skip


class GenAi:
    """onnxruntime-genai's generator: greedy, a token at a time."""

    def __init__(self, directory: Path, family: Family) -> None:
        import onnxruntime_genai as genai

        file = directory / "genai_config.json"
        about = json.loads(file.read_text())
        about["model"]["decoder"]["session_options"]["intra_op_num_threads"] = family.threads
        file.write_text(json.dumps(about))
        self.genai, self.model = genai, genai.Model(str(directory))
        self.size_bytes = sum(path.stat().st_size for path in directory.glob("model.onnx*"))

    def _generator(self, length: int) -> Any:
        options = self.genai.GeneratorParams(self.model)
        options.set_search_options(max_length=length, min_length=length, do_sample=False)
        return self.genai.Generator(self.model, options)

    def infer(self, batch: dict[str, Array]) -> Array:
        generator = self._generator(batch["input_ids"].shape[1] + 1)
        generator.append_tokens(batch["input_ids"].astype(np.int32))
        return np.asarray(generator.get_output("logits"), np.float32)

    def generate(self, ids: Array, new_tokens: int) -> list[Instant]:
        times = []
        generator = self._generator(ids.shape[1] + new_tokens)
        generator.append_tokens(ids.astype(np.int32))
        for _ in range(new_tokens):
            generator.generate_next_token()
            times.append(now())
        return times


def _built(family: Family, precision: str, scratch: Path) -> GenAi:
    build = {"type": "ModelBuilder", "precision": precision, "int4_accuracy_level": 4}
    _run({"input_model": {"type": "HfModel", "model_path": str(family.model)}, "passes": {"build": build}}, scratch)
    return GenAi(next((scratch / "out").rglob("genai_config.json")).parent, family)
