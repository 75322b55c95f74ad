"""What flows between the nodes of an ONNX graph, on real inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx
import onnxruntime
from onnx import helper

from engine.domain.ports import Array, Batch


def activations_of(model: onnx.ModelProto, names: Sequence[str], batches: Sequence[Batch]) -> Iterator[dict[str, Array]]:
    """The named tensors for each batch. Inputs of the graph are given back as fed."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    given = {value.name for value in probe.graph.output} | {value.name for value in probe.graph.input}
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in given)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    computed = [name for name in names if name not in wanted]
    for batch in batches:
        fed = {name: array for name, array in batch.items() if name in wanted}
        yield dict(zip(computed, session.run(computed, fed), strict=True)) | {n: fed[n] for n in names if n in fed}
