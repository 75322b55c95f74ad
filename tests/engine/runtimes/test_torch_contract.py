"""What every runtime promises, eager being the measure; a new runtime is covered once it is in the registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.domain.deployment import Deployment, Formats, Lowered, NumberFormat
from engine.domain.ports import Array, Executor
from engine.domain.recipe import RuntimeId
from engine.domain.workload import KvCache
from engine.runtimes.registry import RUNTIMES, runtime_of
from tests.engine.runtimes.conftest import MAKERS, WORKLOAD, batch_of, context_in, deployed

CALIBRATED_CNN = {RuntimeId.ONNXRUNTIME, RuntimeId.OPENVINO}
INT8 = [(r, f) for r in RUNTIMES for f in MAKERS if f != "resnet" or r in CALIBRATED_CNN]


def open_lowered(deployment: Deployment, scratch: Path) -> tuple[Lowered, Executor]:
    runtime = runtime_of(deployment.runtime)
    lowered = runtime.lower(deployment, context_in(scratch, deployment.card))
    return lowered, runtime.open(lowered, deployment.card, WORKLOAD, threads=1)


def answer(deployment: Deployment, scratch: Path) -> Array:
    _, executor = open_lowered(deployment, scratch)
    outputs = executor.infer(batch_of(deployment.card))
    executor.close()
    assert list(outputs) == [spec.name for spec in deployment.card.outputs]
    return outputs[deployment.card.outputs[0].name]


def relative_error(found: Array, reference: Array) -> float:
    return float(np.linalg.norm(found - reference) / np.linalg.norm(reference))


@pytest.mark.parametrize("family", MAKERS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_fp32_equals_eager(runtime: RuntimeId, family: str, tiny: dict[str, Path], tmp_path: Path) -> None:
    reference = answer(deployed(tiny[family], RuntimeId.EAGER), tmp_path / "eager")
    found = answer(deployed(tiny[family], runtime), tmp_path / "other")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("runtime", "family"), INT8)
def test_int8_is_in_the_files_and_stays_close(
    runtime: RuntimeId, family: str, tiny: dict[str, Path], tmp_path: Path
) -> None:
    reference = answer(deployed(tiny[family], RuntimeId.EAGER), tmp_path / "eager")
    deployment = deployed(tiny[family], runtime, Formats(weights=NumberFormat.INT8))
    lowered, executor = open_lowered(deployment, tmp_path / "int8")
    found = executor.infer(batch_of(deployment.card))[deployment.card.outputs[0].name]
    executor.close()
    assert 1e-6 < relative_error(found, reference) < 0.2
    assert int(lowered.facts.facts["int8_weights"]) > 0
    assert lowered.size_bytes == sum((Path(lowered.directory) / name).stat().st_size for name in lowered.files)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_greedy_tokens_equal_eagers(runtime: RuntimeId, tiny: dict[str, Path], tmp_path: Path) -> None:
    prompt = batch_of(deployed(tiny["llama"], runtime).card)["input_ids"]
    _, eager = open_lowered(deployed(tiny["llama"], RuntimeId.EAGER), tmp_path / "eager")
    _, other = open_lowered(deployed(tiny["llama"], runtime), tmp_path / "other")
    expected, found = eager.generate(prompt, 4), other.generate(prompt, 4)
    assert found.tokens.shape == (2, 4)
    assert found.tokens.dtype == np.int64
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    assert len(found.token_times) == 4
    assert list(found.token_times) == sorted(found.token_times)
    np.testing.assert_array_equal(other.generate(prompt, 4).tokens, expected.tokens)


def test_a_fixed_kv_cache_gives_the_same_tokens(tiny: dict[str, Path], tmp_path: Path) -> None:
    deployment = deployed(tiny["llama"], RuntimeId.EAGER)
    lowered, growing = open_lowered(deployment, tmp_path / "eager")
    fixed = runtime_of(RuntimeId.EAGER).open(lowered, deployment.card, replace(WORKLOAD, kv_cache=KvCache.STATIC), threads=1)
    prompt = batch_of(deployment.card)["input_ids"]
    for _ in range(2):
        np.testing.assert_array_equal(fixed.generate(prompt, 5).tokens, growing.generate(prompt, 5).tokens)
