"""Bytes and operations of a call by its card, and the shares of measured peaks that follow."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from engine.compare.headroom import headroom
from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.calibration import Bandwidth, Calibration, Peak, Precision
from engine.domain.experiment import StageFacts
from engine.domain.host import Environment
from engine.domain.metrics import Measurement
from engine.domain.workload import Workload
from engine.measure.limits import (
    body_parameters,
    cache_bytes_per_token,
    decode_bytes,
    is_tied,
    passes,
    prefill_flops,
    weight_bytes,
)
from engine.measure.shares import arithmetic, shares_of_peaks
from tests.engine.compare.runs import run

SMOLLM2 = ModelCard(
    ArtifactFormat.GGUF, TaskId.CAUSAL_LM, "LlamaForCausalLM", 134_515_008, "Q4_1", (), hidden_size=576, intermediate_size=1536,
    num_layers=30, num_heads=9, num_kv_heads=3, head_dim=64, vocab_size=49_152, max_positions=8192,
)  # fmt: skip
MINILM = ModelCard(
    ArtifactFormat.HUGGINGFACE, TaskId.TEXT_ENCODER, "BertModel", 22_713_216, "float32", (), hidden_size=384,
    intermediate_size=1536, num_layers=6, num_heads=12, head_dim=32, vocab_size=30_522,
)  # fmt: skip
WORKLOAD = Workload(sequence_length=128, new_tokens=32)


def calibration() -> Calibration:
    environment = Environment("h", "cpu", 2, 2**34, "6", "3.11", (), 2, "", "full")
    return Calibration(
        "h", datetime.now(UTC), environment, (Peak(Precision.FP32, 2, 100e9), Peak(Precision.INT8, 2, 400e9)), (Bandwidth(2, 20e9),), 0.01, 10, 0.02
    )


def timed(**values: float) -> list[Measurement]:
    return [Measurement(name, "ms", value, (value * 0.9, value * 1.1), 10) for name, value in values.items()]


def test_smollm2_has_one_table_and_its_layers_add_up() -> None:
    assert is_tied(SMOLLM2)
    assert body_parameters(SMOLLM2) == 134_515_008 - 49_152 * 576
    untied = replace(SMOLLM2, parameters=SMOLLM2.parameters + 49_152 * 576)
    assert not is_tied(untied)
    assert body_parameters(untied) == body_parameters(SMOLLM2)
    # keys and values of 30 layers, 3 heads of 64, 4 bytes each
    assert cache_bytes_per_token(SMOLLM2) == 2 * 30 * 3 * 64 * 4


def test_prefill_is_two_operations_a_weight_and_token_and_the_attention() -> None:
    expected = 2 * body_parameters(SMOLLM2) * 128 + 2 * 49_152 * 576 + 2 * 30 * 9 * 64 * 128**2
    assert prefill_flops(SMOLLM2, WORKLOAD) == expected
    assert prefill_flops(SMOLLM2, replace(WORKLOAD, batch_size=4)) == 4 * expected


def test_a_pass_reads_no_table_but_the_rows_it_looks_up() -> None:
    assert weight_bytes(MINILM, 4 * MINILM.parameters) == 4 * (MINILM.parameters - 30_522 * 384)
    assert weight_bytes(SMOLLM2, 538_000_000) == 538_000_000
    assert passes(MINILM, WORKLOAD) == 1 and passes(SMOLLM2, WORKLOAD) == 32
    assert decode_bytes(SMOLLM2, WORKLOAD, 10**8) == 10**8 + 144 * cache_bytes_per_token(SMOLLM2)


def test_shares_turn_intervals_about() -> None:
    shares = shares_of_peaks(timed(time_to_first_token=500.0, time_per_output_token=50.0), (), SMOLLM2, WORKLOAD, 538_000_000, calibration(), 2)
    prefill, decode = shares
    assert prefill.name == "prefill_share" and prefill.unit == "share"
    assert prefill.median == pytest.approx(prefill_flops(SMOLLM2, WORKLOAD) / 0.5 / 100e9)
    assert decode.median == pytest.approx(decode_bytes(SMOLLM2, WORKLOAD, 538_000_000) / 0.05 / 20e9)
    assert decode.ci95 is not None and decode.ci95[0] < decode.median < decode.ci95[1]


def test_the_peak_is_that_of_the_arithmetic() -> None:
    dynamic = StageFacts("openvino", 1.0, {"format": "int8", "mode": "dynamic"})
    stored = StageFacts("eager", 1.0, {"format": "int8", "mode": "weight_only"})
    assert [arithmetic([s]) for s in (dynamic, stored)] == ["int8", "fp32"]
    plain, integer = (shares_of_peaks(timed(time_to_first_token=500.0), f, SMOLLM2, WORKLOAD, 1, calibration(), 2)[0] for f in ((), (dynamic,)))
    assert integer.median == pytest.approx(plain.median / 4)


@pytest.mark.parametrize("case", ["not calibrated", "other threads", "an encoder"])
def test_without_a_limit_there_is_no_share(case: str) -> None:
    known = None if case == "not calibrated" else calibration()
    card = MINILM if case == "an encoder" else SMOLLM2
    assert shares_of_peaks(timed(time_to_first_token=1.0), (), card, WORKLOAD, 1, known, 1 if case == "other threads" else 2) == []


def test_the_sentence_says_how_far_the_limit_is() -> None:
    words = headroom(run("@openvino", prefill_share=0.5, decode_share=0.8))
    assert "Prefill reaches 50% of the arithmetic" in words and "at most 2 times faster" in words
    assert "Decode reaches 80%" in words and "at most 1.2 times faster" in words
    assert "caches" in headroom(run("", decode_share=1.3))
    assert headroom(run("")) == ""
