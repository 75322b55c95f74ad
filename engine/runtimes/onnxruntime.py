"""onnxruntime: ONNX graphs on its CPU kernels, quantized by its own quantizers."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from onnxruntime import InferenceSession

from engine.domain.artifact import ModelCard, TaskId
from engine.domain.deployment import Deployment, Formats, Lowered, NumberFormat, QuantizationMode
from engine.domain.experiment import Progress, StageFacts
from engine.domain.ports import Context, Executor
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.host import usable_cores
from engine.runtimes.ort.executors import LmExecutor, TensorExecutor, open_session

MODEL = "model.onnx"


class OnnxRuntime:
    """One `model.onnx` (and its `.data` beyond 2 GB)."""

    id = RuntimeId.ONNXRUNTIME

    def lower(self, deployment: Deployment, context: Context) -> Lowered:
        """Export, quantize, and prove it from the file.

        Raises StageError when the model does not export or the format has no kernels,
        NothingChanged when the produced file lacks the format.
        """
        # what opens a model must not carry what made it: its memory is measured
        from engine.runtimes.export import workload_settings
        from engine.runtimes.ort.facts import census_of, integer_operators, layers_of
        from engine.runtimes.ort.graph import write_graph
        from engine.runtimes.ort.quantize import quantize
        from engine.runtimes.proof import Facts, demand, format_facts, layer_facts

        begun = time.perf_counter()
        context.report(Progress("Exporting to ONNX", 0.0))
        deployment = deployment.with_(formats=settled(deployment.formats, deployment.card.task))
        formats = deployment.formats
        file = context.scratch / MODEL
        noted: Facts = {}
        if formats.is_plain:
            write_graph(deployment, context.scratch)
        else:
            source = write_graph(deployment, context.scratch / "fp32")
            context.report(Progress("Quantizing the ONNX graph", 0.5))
            noted = quantize(source, file, deployment, context)
            for part in source.parent.iterdir():
                part.unlink()
            source.parent.rmdir()
        census = census_of(file)
        demand(formats, census, integer_operators(file, formats), "onnxruntime")
        stayed, attachments = layer_facts(layers_of(file), formats)
        facts = format_facts(formats) | census.facts() | stayed | noted
        files = tuple(sorted(p.name for p in context.scratch.iterdir()))
        return Lowered(
            runtime=self.id, directory=str(context.scratch), files=files,
            size_bytes=sum((context.scratch / name).stat().st_size for name in files), settings=workload_settings(deployment),
            facts=StageFacts("onnxruntime", time.perf_counter() - begun, facts, attachments=attachments),
        )  # fmt: skip

    def open(self, lowered: Lowered, card: ModelCard, workload: Workload, threads: int) -> Executor:
        """A session; raises StageError when the file does not open."""
        device = lowered.placement.device
        return executor_on(open_session(Path(lowered.directory) / MODEL, threads or usable_cores(), device=device), card)


def executor_on(session: InferenceSession, card: ModelCard) -> Executor:
    """What answers with an opened session."""
    if card.task is TaskId.CAUSAL_LM:
        return LmExecutor(session)
    return TensorExecutor(session, [o.name for o in session.get_outputs()])


def settled(formats: Formats, task: TaskId) -> Formats:
    """With the mode that a bare `int8` or `int4` means here.

    Texts: dynamic, because one calibrated scale for all texts costs more quality (MiniLM's
    cosine 0.93 against 0.996); convolutions run in integers only with static scales.
    """
    if formats.weights not in (NumberFormat.INT8, NumberFormat.INT4) or formats.mode is not QuantizationMode.NONE:
        return formats
    mode = QuantizationMode.DYNAMIC if task.takes_text else QuantizationMode.STATIC
    return replace(formats, mode=mode)
