"""Two ranks for real, on tiny models: equal to one process, and what happens when one of them does not answer."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.domain.errors import StageError
from engine.domain.layout import Cut, Layout
from engine.domain.ports import Context
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.executors.opening import open_alone
from engine.executors.spread import peers
from engine.executors.spread.batching import Batcher, QueueFull
from engine.executors.spread.executor import SpreadExecutor, open_spread, spread_over
from engine.executors.spread.part import Place, meet
from engine.executors.spread.peers import Starter
from engine.executors.spread.proof import prove
from engine.executors.spread.serving import Serving
from engine.measure.load import offline, server
from engine.requests import OpenRequest
from engine.runtimes.registry import runtime_of
from engine.sandbox import tree
from tests.engine.runtimes.conftest import batch_of, context_in, deployed
from tests.models import tiny_bert, tiny_llama, tiny_onnx, tiny_resnet, tiny_vit

MAKERS = {"bert": tiny_bert, "llama": tiny_llama, "resnet": tiny_resnet, "vit": tiny_vit}
WORKLOAD = Workload(batch_size=2, sequence_length=16, new_tokens=4)
TIMEOUT = 5.0


@pytest.fixture(scope="module")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OpenRequest]:
    """Each family lowered for eager."""
    made = {}
    for family, make in MAKERS.items():
        folder = tmp_path_factory.mktemp(family)
        deployment = deployed(make(folder / "model"), RuntimeId.EAGER)
        files = runtime_of(RuntimeId.EAGER).lower(deployment, context_in(folder / "lowered", deployment.card))
        made[family] = OpenRequest(files, "", deployment.card, WORKLOAD, "", 2)
    return made


def context_of_tensors(scratch: Path) -> Context:
    scratch.mkdir()
    return Context(scratch, [{"x": np.ones((2, 16), np.float32)}], lambda _: None, 1)


def spread(request: OpenRequest, **layout: object) -> OpenRequest:
    wanted = Layout(timeout=30.0, **layout)  # type: ignore[arg-type]
    return replace(request, lowered=replace(request.lowered, layout=wanted))


@pytest.fixture(scope="module")
def two_ranks() -> Iterator[Callable[[OpenRequest], SpreadExecutor]]:
    """Two workers for many models: importing torch is what takes their time."""
    peers = Starter(threads=1).start(2)

    def lent(request: OpenRequest) -> SpreadExecutor:
        executor = spread_over(peers, request)
        executor.close = lambda: None  # type: ignore[method-assign]
        return executor

    yield lent
    for peer in peers:
        peer.end()


@pytest.mark.parametrize(
    ("family", "cut"),
    [
        ("bert", Cut.PIPELINE), ("resnet", Cut.PIPELINE), ("llama", Cut.PIPELINE),
        ("bert", Cut.TENSOR), ("vit", Cut.TENSOR), ("llama", Cut.TENSOR),
    ],
)  # fmt: skip
def test_a_cut_model_answers_as_one_process(
    family: str, cut: Cut, lowered: dict[str, OpenRequest], two_ranks: Callable[[OpenRequest], SpreadExecutor]
) -> None:
    request = spread(lowered[family], cut=cut, degree=2)
    proven = prove(request, batch_of(request.card), two_ranks)
    facts = proven.facts
    assert float(facts["max_abs_difference"]) <= (0.0 if cut is Cut.PIPELINE and family == "llama" else 1e-4)
    assert facts.get("greedy_tokens_identical", True) is True
    assert 0 < float(facts["stage_balance"]) <= 1 and 0 < float(facts["bubble_share"]) < 1
    assert 0 <= float(facts["communication_share"]) < 1 and int(facts["sent_bytes"]) > 0
    if cut is Cut.PIPELINE:
        assert facts["microbatches"] == 2 and facts["cuts"]
    else:
        assert facts["attention_split"] is True
    (drawn,) = proven.attachments
    assert drawn.kind == "timeline" and drawn.data["ranks"] == ["rank 0", "rank 1"]
    assert {event[0] for event in drawn.data["events"]} == {0, 1}


def test_a_stage_does_not_take_one_input_for_another(
    lowered: dict[str, OpenRequest], two_ranks: Callable[[OpenRequest], SpreadExecutor]
) -> None:
    """Padding is what tells a mask from tokens."""
    request = spread(lowered["bert"], cut=Cut.PIPELINE, degree=2)
    batch = batch_of(request.card)
    batch = {**batch, "attention_mask": np.array(batch["attention_mask"])}
    batch["attention_mask"][1, 5:] = 0
    assert float(prove(request, batch, two_ranks).facts["max_abs_difference"]) < 1e-4


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> OpenRequest:
    """Lowered for onnxruntime at two rows a call: opened without torch, which is quick."""
    folder = tmp_path_factory.mktemp("tensors")
    deployment = deployed(tiny_onnx(folder / "model"), RuntimeId.ONNXRUNTIME)
    files = runtime_of(RuntimeId.ONNXRUNTIME).lower(deployment, context_of_tensors(folder / "lowered"))
    return OpenRequest(files, "", deployment.card, replace(WORKLOAD, batch_size=4), "", 2)


BATCH = {"x": np.random.default_rng(1).normal(size=(4, 16)).astype(np.float32)}


def test_replicas_share_out_a_batch_and_answer_in_order(tensors: OpenRequest) -> None:
    with closing(open_alone(replace(tensors, workload=WORKLOAD))) as alone:
        expected = np.concatenate([alone.infer({"x": BATCH["x"][i : i + 2]})["y"] for i in (0, 2)])
    with closing(open_spread(spread(tensors, replicas=2))) as executor:
        np.testing.assert_array_equal(executor.infer(BATCH)["y"], expected)
        np.testing.assert_array_equal(executor.infer({"x": BATCH["x"][:3]})["y"], expected[:3])


def test_what_replicas_hold_and_how_they_scale_is_a_fact(tensors: OpenRequest) -> None:
    facts = prove(spread(tensors, replicas=2), BATCH).facts
    assert facts["max_abs_difference"] == 0.0 and facts["workers"] == 2
    assert float(facts["scaling_efficiency"]) > 0 and str(facts["items_per_second"]).startswith("1: ")
    assert int(facts["workers_pss_bytes"]) > 2**24
    assert int(facts["shared_between_workers_bytes"]) > 0


def test_answers_that_differ_fail_the_run(tensors: OpenRequest) -> None:
    def crooked(request: OpenRequest) -> SpreadExecutor:
        executor = open_spread(request)
        infer = executor.infer
        executor.infer = lambda batch: {name: value + 0.5 for name, value in infer(batch).items()}  # type: ignore[method-assign]
        return executor

    with pytest.raises(StageError, match=r"y of the spread model differs from the single process by 0\.5"):
        prove(spread(tensors, replicas=2), BATCH, crooked)


def test_a_greedy_token_that_differs_fails_the_run(
    lowered: dict[str, OpenRequest], two_ranks: Callable[[OpenRequest], SpreadExecutor]
) -> None:
    def crooked(request: OpenRequest) -> SpreadExecutor:
        executor = two_ranks(request)
        generate = executor.generate
        executor.generate = lambda ids, count: replace(made := generate(ids, count), tokens=made.tokens + 1)  # type: ignore[method-assign]
        return executor

    request = spread(lowered["llama"], cut=Cut.PIPELINE, degree=2)
    with pytest.raises(StageError, match=r"(\d+) of \1 greedy tokens differ"):
        prove(request, batch_of(request.card), crooked)


def test_single_requests_are_gathered_and_one_too_many_is_turned_away(tensors: OpenRequest) -> None:
    layout = Layout(replicas=2, timeout=30.0, max_wait_ms=50.0, queue=8)
    rows = [{"x": np.full((1, 16), i, np.float32)} for i in range(12)]
    with closing(open_spread(spread(tensors, replicas=2))) as executor:
        expected = [executor.infer(row)["y"] for row in rows]
        batcher = Batcher(executor, layout, share=2)
        answers = [batcher.submit(row) for row in rows[:8]]
        for answer, wanted in zip(answers, expected, strict=False):
            np.testing.assert_array_equal(answer.result(30)["y"], wanted)
        assert sum(batcher.sizes) == 8 and max(batcher.sizes) == 2
        with pytest.raises(QueueFull, match="8 requests wait already"):
            for _ in range(1000):
                batcher.submit(rows[0])
        os.kill(executor.groups[0].peers[0].pid, signal.SIGKILL)
        os.kill(executor.groups[1].peers[0].pid, signal.SIGKILL)
        batcher.close()
        with pytest.raises(StageError, match="SIGKILL"):
            _last_answer(executor, layout, rows[0])


@pytest.mark.parametrize("queue", [64, 1])
def test_replicas_serve_a_load_and_a_full_queue_holds_it_back(tensors: OpenRequest, queue: int) -> None:
    request = spread(tensors, replicas=2, queue=queue, max_wait_ms=5.0)
    with closing(open_spread(request)) as executor:
        serving = Serving(executor, request, BATCH)
        with closing(serving):
            poisson = server(serving.server.submit, rate=500.0, count=100, seed=1)
            everything = offline(serving.server.submit, batch=4, seconds=0.01, typical=0.001)
    assert poisson.queries == 100 and poisson.latencies[90] > 0
    assert everything.queries == 10 and everything.throughput > 0
    assert serving.remark().startswith("140 requests were gathered into")
    assert ("the queue of 1 was full" in serving.remark()) == (queue == 1)


def test_a_replica_that_fails_under_load_ends_it_with_its_name(tensors: OpenRequest) -> None:
    request = spread(tensors, replicas=2)
    with closing(open_spread(request)) as executor:
        serving = Serving(executor, request, BATCH)
        for group in executor.groups:
            os.kill(group.peers[0].pid, signal.SIGKILL)
        offline(serving.server.submit, batch=4, seconds=0.01, typical=0.001)
        with pytest.raises(StageError, match="SIGKILL"):
            serving.close()


def _last_answer(executor: SpreadExecutor, layout: Layout, row: dict[str, np.ndarray]) -> None:
    again = Batcher(executor, layout, share=2)
    answer = again.submit(row)
    again.close()
    answer.result(30)


@pytest.mark.parametrize(
    ("signal_", "says", "within"),
    [(signal.SIGKILL, "killed by SIGKILL", 15.0), (signal.SIGSTOP, r"stopped \(SIGSTOP\)", TIMEOUT + 5.0)],
)
def test_a_worker_that_is_killed_or_stopped_ends_the_run_with_its_name(
    signal_: signal.Signals, says: str, within: float, tensors: OpenRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    request = spread(tensors, replicas=2)
    layout = replace(request.lowered.layout, timeout=TIMEOUT)
    with closing(open_spread(replace(request, lowered=replace(request.lowered, layout=layout)))) as executor:
        executor.infer(BATCH)
        victim = executor.groups[1].peers[0]
        os.kill(victim.pid, signal_)
        began = time.monotonic()
        with pytest.raises(StageError, match=says) as caught:
            executor.infer(BATCH)
        assert time.monotonic() - began < within
        assert caught.value.where == victim.name and "on" in victim.name
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_of_a_cut_model_that_fails_is_the_one_that_is_named(
    signal_: signal.Signals, lowered: dict[str, OpenRequest]
) -> None:
    request = spread(lowered["bert"], cut=Cut.TENSOR, degree=2)
    request = replace(request, lowered=replace(request.lowered, layout=replace(request.lowered.layout, timeout=TIMEOUT)))
    with closing(open_spread(request)) as executor:
        batch = batch_of(request.card)
        executor.infer(batch)
        victim = executor.groups[0].peers[1]
        os.kill(victim.pid, signal_)
        began = time.monotonic()
        with pytest.raises(StageError, match=r"SIG(KILL|STOP)") as caught:
            executor.infer(batch)
        assert time.monotonic() - began < TIMEOUT + 5.0
        assert caught.value.where == victim.name and "rank 1 on" in victim.name
        with pytest.raises(StageError, match=r"rank \d on"):
            executor.infer(batch)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StageError, match=f"Port {port} is taken"):
            meet(Place(0, 2, port=port), 5.0)


def test_a_worker_that_cannot_start_is_named_with_what_it_wrote(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(peers, "_PACKAGE", tmp_path / "nowhere")
    with pytest.raises(StageError, match=r"Rank \d ended with exit code 1 before it was ready") as caught:
        Starter(threads=1).start(2)
    assert "nowhere" in caught.value.detail and not list(tmp_path.iterdir())


@pytest.fixture(autouse=True)
def nobody_is_left(two_ranks: object) -> Iterator[None]:
    """Whatever happens to a run, none of its workers outlives it."""
    before = set(_workers())
    yield
    deadline = time.monotonic() + 5.0
    while (left := set(_workers()) - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def _workers() -> list[int]:
    """Workers of this process that are still there."""
    return [pid for pid in tree.descendants(os.getpid()) if _is_worker(pid)]


def _is_worker(pid: int) -> bool:
    try:
        return b"spread.worker" in Path(f"/proc/{pid}/cmdline").read_bytes() and tree.is_alive(pid)
    except FileNotFoundError:
        return False
