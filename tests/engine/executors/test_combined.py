"""Cuts with rewrites, compilers and copies: what is planned runs and answers as one process of the same recipe does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from engine.domain.workload import Workload
from engine.executors.spread.executor import SpreadExecutor, spread_over
from engine.executors.spread.peers import Peer, Starter
from engine.executors.spread.proof import batch_for, prove
from engine.host import this_host
from engine.pipeline import transform
from engine.requests import OpenRequest, TransformRequest
from tests.engine.runtimes.conftest import batch_of
from tests.models import tiny_bert, tiny_card, tiny_llama, tiny_resnet

HOST = replace(this_host(), cores=6)
"""As many as the largest case has workers: here they share what there is."""
WORKLOAD = Workload(batch_size=4, sequence_length=16, new_tokens=4, threads=1)
PIPELINE, TENSOR = "model_parallelism(kind=pipeline)", "model_parallelism(kind=tensor)"
THREE = partial(tiny_bert, layers=3, heads=6, hidden=48)
CASES = [
    (tiny_bert, f"quantization(format=int8)+{PIPELINE}"),
    (tiny_llama, f"quantization(format=int8)+{PIPELINE}"),
    (tiny_bert, f"quantization(format=bf16)+{TENSOR}"),
    (tiny_llama, f"quantization(format=bf16)+{PIPELINE}"),
    (tiny_bert, f"pruning(sparsity=0.5)+{TENSOR}"),
    (tiny_llama, f"pruning(sparsity=0.5)+{PIPELINE}"),
    (tiny_resnet, f"pruning(sparsity=0.5)+{PIPELINE}"),
    (tiny_bert, f"{PIPELINE}@inductor"),
    (tiny_bert, f"{TENSOR}@inductor"),
    (THREE, "model_parallelism(kind=pipeline, degree=3)"),
    (THREE, "model_parallelism(kind=tensor, degree=3)"),
    (tiny_bert, f"{PIPELINE}+distributed(replicas=2)"),
    (tiny_llama, f"{TENSOR}+distributed(replicas=2)"),
    (THREE, "model_parallelism(kind=tensor, degree=3)+distributed(replicas=2)"),
]


@pytest.fixture(scope="module")
def workers() -> Iterator[Callable[[OpenRequest], SpreadExecutor]]:
    """The same workers for all cases that group them alike: importing torch is what takes their time."""
    peers: list[Peer] = []
    grouped: list[tuple[int, int]] = []

    def lent(request: OpenRequest) -> SpreadExecutor:
        layout = request.lowered.layout
        if grouped != [(layout.degree, layout.replicas)] or any(peer.process.poll() is not None for peer in peers):
            for peer in peers:
                peer.end()
            peers[:] = Starter(threads=1).start(layout.workers)
            grouped[:] = [(layout.degree, layout.replicas)]
        executor = spread_over([replace(peer) for peer in peers], request)
        executor.close = lambda: None  # type: ignore[method-assign]
        return executor

    yield lent
    for peer in peers:
        peer.end()


@pytest.mark.parametrize(("make", "recipe"), CASES, ids=[recipe for _, recipe in CASES])
def test_answers_are_those_of_one_process(
    make: Callable[[Path], Path], recipe: str, workers: Callable[[OpenRequest], SpreadExecutor], tmp_path: Path
) -> None:
    model, output = make(tmp_path / "model"), tmp_path / "output"
    output.mkdir()
    card = tiny_card(model)
    request = TransformRequest(str(model), card, recipe, WORKLOAD, "", str(output), HOST, 1)
    made = transform(request, lambda _: None, prove=False)
    opening = OpenRequest(made.lowered, str(model), card, WORKLOAD, "", 1)
    facts = prove(opening, batch_for([batch_of(card)], WORKLOAD.batch_size), workers).facts
    layout = made.lowered.layout
    assert facts["workers"] == layout.workers and float(facts["max_abs_difference"]) < 0.1
    assert ("stage_balance" in facts) == (layout.degree > 1)
    assert ("scaling_efficiency" in facts) == (layout.replicas > 1)
    assert facts.get("greedy_tokens_identical", True) is True or "quantization" in recipe
