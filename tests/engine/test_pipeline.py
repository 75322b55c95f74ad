"""The story of a run: in process with stand-ins where a case is rare, in real children where it matters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import pipeline
from engine.compare.speedup import speedup_of
from engine.domain.artifact import ModelCard
from engine.domain.codec import as_data, decode, encode, from_data
from engine.domain.deployment import Applied, Deployment, Lowered
from engine.domain.errors import NothingChanged, StageError
from engine.domain.experiment import Progress, Round, StageFacts
from engine.domain.metrics import Verdict
from engine.domain.ports import Batch, Context, Generation, Outputs
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.execution.judging import noise_of, pinned_cores, shadows_of
from engine.execution.leash import Leash
from engine.executors import opening as executors_opening
from engine.host import this_host
from engine.measure.block import Block, Candidate
from engine.measure.series import Series
from engine.measure.summary import summarize
from engine.pipeline import MeasureSession, transform
from engine.requests import OpenRequest, TransformRequest, TransformResult
from engine.sandbox import Limits, start_child
from tests.models import tiny_bert, tiny_card, tiny_llama, tiny_onnx

QUICK = Workload(sequence_length=16, new_tokens=4, threads=1, rounds=4, processes=1, round_seconds=0.05, warmup_calls=2)


def unheard(_: Progress) -> None:
    return None


def asked(model: Path, folder: Path, recipe: str = "", dataset: Path | None = None) -> TransformRequest:
    output = folder / "output"
    output.mkdir()
    return TransformRequest(
        str(model), tiny_card(model), recipe, QUICK, "", str(output), this_host(), 1, str(dataset or "")
    )


def opening(done: TransformResult, request: TransformRequest, scratch: Path) -> OpenRequest:
    scratch.mkdir()
    return OpenRequest(
        done.lowered, request.artifact_dir, request.card, request.workload, request.dataset_file, 1, str(scratch)
    )


@dataclass
class Echo:
    """An executor whose answer is made by `answer`."""

    answer: Callable[[Batch], Outputs]

    def infer(self, batch: Batch) -> Outputs:
        return self.answer(batch)

    def generate(self, input_ids: Any, new_tokens: int) -> Generation:
        raise StageError("Not a causal LM.")

    def close(self) -> None:
        return None


@dataclass
class StandIn:
    """A runtime that lowers to one file and opens an Echo."""

    answer: Callable[[Batch], Outputs] = lambda batch: {"y": np.zeros((len(batch["x"]), 8), np.float32)}
    id: RuntimeId = RuntimeId.ONNXRUNTIME

    def lower(self, deployment: Deployment, context: Context) -> Lowered:
        assert list(context.scratch.iterdir()) == []
        assert len(context.calibration) >= 1
        context.report(Progress("halfway", 0.5))
        (context.scratch / "model").write_text(deployment.variant.directory)
        return Lowered(self.id, str(context.scratch), ("model",), 1, {}, StageFacts("stand-in", 0.0, {"files": 1}))

    def open(self, lowered: Lowered, card: ModelCard, workload: Workload, threads: int) -> Echo:
        return Echo(self.answer)


class Marks:
    """A technique that leaves a variant of its own."""

    def apply(self, deployment: Deployment, config: Any, context: Context) -> Applied:
        variant = replace(deployment.variant, directory=str(context.scratch), changed=True)
        return Applied(deployment.with_(variant=variant), StageFacts("marks", 0.0, {"changed": True}))


class Idle:
    """A technique that finds it changed nothing."""

    def apply(self, deployment: Deployment, config: Any, context: Context) -> Applied:
        raise NothingChanged("No layer was quantized.")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_onnx(tmp_path / "model")


def test_stages_run_in_order_each_in_its_own_folder(
    model: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "runtime_of", lambda id: StandIn())
    monkeypatch.setattr(pipeline, "_technique", lambda stage: Marks())
    told: list[Progress] = []
    done = transform(asked(model, tmp_path, "quantization(format=int8)", inputs), told.append)
    assert [f.technique for f in done.facts] == ["marks", "stand-in"]
    assert all(f.seconds > 0 for f in done.facts)
    assert Path(done.lowered.directory).name == "2-onnxruntime"
    assert (Path(done.lowered.directory) / "model").read_text() == str(tmp_path / "output" / "1-quantization")
    assert [(p.stage, p.fraction) for p in told] == [("Quantization", 0.0), ("onnxruntime", 0.5), ("halfway", 0.75)]
    assert decode(TransformResult, encode(done)) == done


def test_a_stage_that_changed_nothing_is_a_failure_that_names_it(
    model: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_technique", lambda stage: Idle())
    with pytest.raises(NothingChanged, match="No layer was quantized") as caught:
        transform(asked(model, tmp_path, "quantization(format=int8)", inputs), unheard)
    assert caught.value.where == "Quantization"


def test_a_recipe_that_cannot_run_is_refused_again_in_the_child(model: Path, inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="cannot run here"):
        transform(asked(model, tmp_path, "@inductor", inputs), unheard)


def test_answers_that_are_not_numbers_are_a_failure(
    model: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = StandIn(lambda batch: {"y": np.full((len(batch["x"]), 8), np.nan, np.float32)})
    for where in (pipeline, executors_opening):
        monkeypatch.setattr(where, "runtime_of", lambda id: broken)
    request = asked(model, tmp_path, "", inputs)
    session = MeasureSession(opening(transform(request, unheard), request, tmp_path / "scratch"))
    with pytest.raises(StageError, match="not finite"):
        session.answers(None)


def test_quality_is_scored_against_the_reference(
    model: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(model, tmp_path, "", inputs)
    done = transform(request, unheard)
    baseline = MeasureSession(opening(done, request, tmp_path / "one")).answers(None)
    quality = {m.name: m.median for m in baseline.quality}
    assert quality["quality"] == 1.0 and quality["max_deviation"] == 0.0
    monkeypatch.setattr(executors_opening, "runtime_of", lambda id: StandIn())
    other = MeasureSession(opening(done, request, tmp_path / "two")).answers(baseline.answers_file)
    quality = {m.name: m.median for m in other.quality}
    assert quality["quality"] < 0.5 and quality["max_deviation"] > 0.1


def test_a_causal_lm_is_timed_token_by_token(tmp_path: Path) -> None:
    request = asked(tiny_llama(tmp_path / "model"), tmp_path)
    session = MeasureSession(opening(transform(request, unheard), request, tmp_path / "scratch"))
    assert len(session.opened.warmup) == 2 and session.opened.first_call > 0
    samples = session.round(0.05).samples
    assert samples.keys() == {"latency", "time_to_first_token", "time_per_output_token"}
    for latency, first, each in zip(*(samples[k] for k in ("latency", "time_to_first_token", "time_per_output_token")), strict=True):
        assert first + 3 * each <= latency
    assert {m.name: m.median for m in session.answers(None).quality}["quality"] == 1.0


def measured_together(
    model: Path, recipes: list[str], folder: Path, dataset: Path | None = None, rounds: int = 4
) -> tuple[list[TransformResult], dict[str, list[Round]], dict[str, dict[str, float]]]:
    """Everything in real sandboxed children: transforms, then a block with the baseline first."""
    limits = Limits.of_host(wall_seconds=600)
    done, candidates = [], []
    for position, recipe in enumerate(["", *recipes]):
        place = folder / str(position)
        place.mkdir()
        request = asked(model, place, recipe, dataset)
        shared = [model, *([dataset] if dataset else [])]
        with start_child(
            "transform", readable=shared, writable=[Path(request.output_dir)], limits=limits, log=place / "t.log", threads=1
        ) as child:
            assert child.level == "full"
            done.append(from_data(TransformResult, child.ask({"request": as_data(request)}, timeout=280)))
        opened = opening(done[-1], request, place / "scratch")
        readable = (*shared, Path(opened.lowered.directory))
        candidates.append(Candidate(f"{position}:{recipe}", opened, readable, place / "m.log"))
    found: dict[str, list[Round]] = {c.run_id: [] for c in candidates}
    with Leash(lambda: False) as leash, Block(0, candidates, start=leash.start, limits=limits) as block:
        for turns in block.rounds(rounds):
            for turn in turns:
                found[turn.run_id].append(turn)
        results = {m.run_id: m for m in block.results()}
    assert block.failures == {}
    numbers = {
        run: {m.name: m.median for m in summarize(found[run], results[run], done[int(run[0])].lowered.size_bytes)}
        for run in found
    }
    return done, found, numbers


def test_runtimes_side_by_side_in_children(model: Path, inputs: Path, tmp_path: Path) -> None:
    done, found, numbers = measured_together(model, ["@openvino"], tmp_path, inputs)
    baseline, openvino = (numbers[run] for run in ("0:", "1:@openvino"))
    assert baseline["quality"] == 1.0
    assert openvino["quality"] == pytest.approx(1.0, abs=1e-3)
    for each in (baseline, openvino):
        assert each["first_call_latency"] > 0 and each["peak_memory"] > 2**24 and each["size"] > 1000
        assert each["throughput"] == pytest.approx(1000 / each["latency"])
    speedup = speedup_of(found["0:"], found["1:@openvino"])
    assert speedup is not None and speedup.rounds == 4
    assert [f.technique for f in done[0].facts] == ["onnxruntime"]


def test_the_same_model_twice_is_not_distinguishable(model: Path, inputs: Path, tmp_path: Path) -> None:
    """As an experiment does it: partner, pinned cores and the noise that the block itself saw."""
    request = replace(asked(model, tmp_path, "", inputs), workload=replace(QUICK, rounds=9, processes=3))
    limits = Limits.of_host(wall_seconds=600)
    done = transform(request, unheard)
    opened = replace(opening(done, request, tmp_path / "scratch"), pinned=pinned_cores(1))
    readable = (model, inputs, Path(done.lowered.directory))
    baseline = Candidate("baseline", opened, readable, tmp_path / "m.log")
    shadows = shadows_of(baseline, tmp_path, verify=True)
    with Leash(lambda: False) as leash, Series(
        0, [baseline], request.workload.rounds, partial(Block, shadows=shadows, start=leash.start, limits=limits)
    ) as series:
        rounds = [turn for turns in series.rounds() for turn in turns]
        check = noise_of(series, rounds).check
    assert series.blocks == 3
    assert check is not None and check.verdict is Verdict.NOT_DISTINGUISHABLE


def test_inductor_compiles_inside_the_sandbox(tmp_path: Path) -> None:
    _, _, numbers = measured_together(tiny_bert(tmp_path / "model"), ["@inductor"], tmp_path)
    assert numbers["1:@inductor"]["quality"] == pytest.approx(1.0, abs=1e-4)
