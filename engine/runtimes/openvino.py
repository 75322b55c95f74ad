"""openvino: IR files on its CPU plugin, quantized by NNCF."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.deployment import Deployment, Formats, Lowered, NumberFormat, QuantizationMode
from engine.domain.errors import NothingChanged, StageError
from engine.domain.experiment import Progress, StageFacts
from engine.domain.ports import Context, Executor
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.host import this_host, usable_cores
from engine.runtimes.ov import openvino as ov
from engine.runtimes.ov.executors import LmExecutor, TensorExecutor
from engine.runtimes.ov.facts import INTEGER_OPERATORS, census_of, executed, layers_of
from engine.runtimes.proof import Census, Facts, demand, format_facts, layer_facts

MODEL = "model.xml"
ACTIVATION_GROUP = 32
HALF = {NumberFormat.BF16: "bf16", NumberFormat.FP16: "f16"}
"""Formats of weights and arithmetic, as openvino spells them."""


class OpenVino:
    """`model.xml` and `model.bin` with the workload's shapes."""

    id = RuntimeId.OPENVINO

    def lower(self, deployment: Deployment, context: Context) -> Lowered:
        """Convert, quantize, and prove it from the file and from the graph that is executed.

        Raises StageError when the model does not convert or the host lacks bf16,
        NothingChanged when the file or the executed graph lacks the format.
        """
        # what opens a model must not carry what made it: its memory is measured
        from engine.runtimes.export import workload_settings
        from engine.runtimes.ov.graph import build
        from engine.runtimes.ov.quantize import quantize

        begun = time.perf_counter()
        deployment = deployment.with_(formats=settled(deployment.formats, deployment.card.task))
        formats = deployment.formats
        _refuse(deployment)
        context.report(Progress("Converting to openvino", 0.0))
        model = build(deployment)
        noted: Facts = {}
        if not formats.is_plain:
            context.report(Progress("Quantizing with NNCF", 0.4))
            model, noted = quantize(model, deployment, context)
        file = context.scratch / MODEL
        ov.save_model(model, file, compress_to_fp16=formats.weights in HALF)
        settings = _settings(formats) | workload_settings(deployment)
        context.report(Progress("Compiling for this processor", 0.8))
        written = ov.Core().read_model(file)
        census = census_of(written)
        census.operators |= executed(compiled_model(file, settings, context.threads))
        _prove(formats, census)
        if formats.kv_cache is NumberFormat.INT8:
            context.report(Progress("Comparing caches", 0.9))
            noted |= {"kv_cache": "int8", "kv_cache_error": _cache_error(file, settings, context)}
        stayed, attachments = layer_facts(layers_of(written), formats)
        facts = format_facts(formats) | census.facts() | stayed | noted
        files = (MODEL, "model.bin")
        return Lowered(
            runtime=self.id, directory=str(context.scratch), files=files,
            size_bytes=sum((context.scratch / name).stat().st_size for name in files), settings=settings,
            facts=StageFacts("openvino", time.perf_counter() - begun, facts, attachments=attachments),
        )  # fmt: skip

    def open(self, lowered: Lowered, card: ModelCard, workload: Workload, threads: int) -> Executor:
        """Compiled for this processor; raises StageError when the files do not open."""
        device = "CPU" if lowered.placement.is_cpu else "GPU"
        return executor_on(compiled_model(Path(lowered.directory) / MODEL, lowered.settings, threads, device), card)


def executor_on(compiled: ov.CompiledModel, card: ModelCard) -> TensorExecutor | LmExecutor:
    """What answers with a compiled model."""
    return LmExecutor(compiled) if _caches(card) else TensorExecutor(compiled)


def _caches(card: ModelCard) -> bool:
    """Whether the model is a causal LM with its cache as state."""
    return card.task is TaskId.CAUSAL_LM and card.format is not ArtifactFormat.ONNX


def _settings(formats: Formats) -> dict[str, str]:
    """Compile properties that belong to the formats; without the hints openvino chooses bf16 and a u8 cache by itself.

    (bf16 around integer weights was tried: SmolLM2 on Zen 5 decodes no faster, and loses 0.1 % of its quality.)
    """
    settings = {"INFERENCE_PRECISION_HINT": HALF.get(formats.weights, "f32")}
    settings["KV_CACHE_PRECISION"] = "u8" if formats.kv_cache is NumberFormat.INT8 else settings["INFERENCE_PRECISION_HINT"]
    group = ACTIVATION_GROUP if formats.mode is QuantizationMode.DYNAMIC else 0
    return settings | {"DYNAMIC_QUANTIZATION_GROUP_SIZE": str(group)}


def compiled_model(file: Path, settings: dict[str, str], threads: int, device: str = "CPU") -> ov.CompiledModel:
    """Compiled for this processor or GPU; names in capitals among `settings` are openvino's own properties. Raises StageError."""
    properties = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
    properties |= {"INFERENCE_NUM_THREADS": str(threads or usable_cores())} if device == "CPU" else {}
    properties |= {name: value for name, value in settings.items() if not name.islower()}
    core = ov.Core()
    if device not in core.available_devices:
        raise StageError(f"openvino sees no {device} here.", mend="Install Intel's compute runtime (intel-opencl-icd), or leave gpu() out.")
    try:
        return core.compile_model(str(file), device, properties)
    except RuntimeError as error:
        raise StageError("openvino does not compile this model.", where=file.name, detail=str(error)) from error


def _refuse(deployment: Deployment) -> None:
    formats = deployment.formats
    capabilities = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if formats.weights in HALF and str(formats.weights).upper() not in capabilities:
        raise StageError(
            f"This processor has no {formats.weights} arithmetic, so openvino would run f32.",
            mend="Choose format=int8, or a host with AVX512-BF16 or AMX.",
        )
    if formats.weights in HALF and _caches(deployment.card) and deployment.workload.batch_size > 1:
        raise StageError(
            f"openvino's attention in {formats.weights} answers the rows of a batch after the first wrongly.",
            mend="Choose batch_size=1, format=int8, or another runtime.",
        )
    if formats.mode is QuantizationMode.DYNAMIC and not this_host().has_vnni:
        raise StageError(
            "openvino quantizes activations while running only with VNNI, which this processor lacks.",
            mend="Choose mode=weight_only or mode=static, or @onnxruntime.",
        )


def _prove(formats: Formats, census: Census) -> None:
    if formats.weights in HALF:
        if not census.operators.get(f"executed_{formats.weights}"):
            raise NothingChanged(f"openvino was told {formats.weights} and executes f32.", mend="Choose format=int8 here.")
    else:
        demand(formats, census, INTEGER_OPERATORS, "openvino")


def _cache_error(file: Path, settings: dict[str, str], context: Context) -> float:
    """How far an int8 cache moves the logits after it: relative, and the proof that there is one.

    The graph that openvino shows keeps silent on how its cache is stored. Raises NothingChanged.
    """
    ids = context.calibration[0]["input_ids"]
    half = ids.shape[1] // 2
    answers = []
    for precision in (settings["INFERENCE_PRECISION_HINT"], settings["KV_CACHE_PRECISION"]):
        executor = LmExecutor(compiled_model(file, settings | {"KV_CACHE_PRECISION": precision}, context.threads))
        executor.infer({"input_ids": ids[:, :half]})
        answers.append(executor.further(ids[:, half:]))
        executor.close()
    exact, stored = answers
    error = float(np.sqrt(((stored - exact) ** 2).mean() / (exact**2).mean()))
    if not error:
        raise NothingChanged("openvino was told to keep its cache in int8 and does not.", mend="Choose kv_cache=float.")
    return round(error, 6)


def settled(formats: Formats, task: TaskId) -> Formats:
    """With the mode that a bare `int8` or `int4` means on this processor.

    Without VNNI the plugin's integer products of texts are slower than its fp32 ones
    (MiniLM on Zen 3: 0.9 times), so only weights are stored as integers there.
    """
    if formats.weights not in (NumberFormat.INT8, NumberFormat.INT4) or formats.mode is not QuantizationMode.NONE:
        return formats
    integers = this_host().has_vnni
    if task is TaskId.CAUSAL_LM:
        mode = QuantizationMode.DYNAMIC if integers else QuantizationMode.WEIGHT_ONLY
    else:
        mode = QuantizationMode.STATIC if integers or not task.takes_text else QuantizationMode.WEIGHT_ONLY
    return replace(formats, mode=mode)
