"""Numbers as the design writes them, and users' words that no Markdown is read in."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.metrics import METRICS, Measurement, Ratio
from pages.parts import format as text


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.ratio(4.361), "4.36×"), (text.latency(11.04), "11.0 ms"), (text.share(0.98744), "0.987"),
        (text.size(139_900_000), "140 MB"), (text.size(512), "512 bytes"), (text.size(999_900), "1.00 MB"),
        (text.signed(-37.2), "−37.2"), (text.signed(3.1, "ms"), "+3.10 ms"), (text.signed(0), "0"),
        (text.plus_minus(Ratio(4.36, (4.22, 4.5))), "± 0.14"), (text.plus_minus(Ratio(1.0, (1 - 3.3e-15, 1 + 3.3e-15))), "± < 0.01 %"),
        (text.plus_minus(Ratio(1.0, (1.0, 1.0))), "± 0"), (text.significant(-3.3e-15), "−3.30·10⁻¹⁵"), (text.count(22_713_216), "22.7 M"), (text.count(512), "512"),
        (text.percent(0.3), "30 %"), (text.duration(40), "40 s"), (text.duration(200), "3 min 20 s"),
        (text.duration(7500), "2 h 5 min"), (text.duration(3600), "1 h"), (text.significant(999.9), "1\u202f000"),
        (text.significant(0.00099999), "0.00100"), (text.latency(12_345), "12.3 s"), (text.value_of("throughput", 91.23), "91.2 items/s"),
        (text.value_of("quality", 1.0), "1.000"), (text.plural(1, "run"), "1 run"), (text.plural(0, "run"), "0 runs"),
    ],
)  # fmt: skip
def test_as_the_design_writes_it(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_what_is_missing_is_a_dash(missing: float | None) -> None:
    for write in (text.ratio, text.latency, text.share, text.size, text.signed, text.percent, text.duration, text.significant):
        assert write(missing) == text.MISSING


@given(st.floats(min_value=1e-9, max_value=1e12))
def test_three_significant_digits_are_within_half_a_percent(value: float) -> None:
    shown = text.significant(value)
    assert "e" not in shown
    assert float(shown.replace("\u202f", "")) == pytest.approx(value, rel=0.00501)


@given(st.sampled_from(sorted(METRICS)), st.floats(min_value=1e-3, max_value=1e9))
def test_every_metric_has_its_unit(metric: str, value: float) -> None:
    unit = METRICS[metric].unit
    shown = text.value_of(metric, value)
    assert shown.endswith((unit, " s", "B", "bytes", *(["%"] if unit == "share" else []))) or unit == "ratio"


def test_an_interval_needs_bounds() -> None:
    assert text.plus_minus(Measurement("size", "bytes", 1.0, None, 1)) == ""
    assert text.plus_minus(None) == ""


def test_moments_follow_the_reader() -> None:
    when = datetime(2026, 11, 23, 3, 22, tzinfo=UTC)
    assert text.moment(when) == "23 Nov 2026, 03:22"
    assert text.moment(when, "Asia/Tokyo") == "23 Nov 2026, 12:22"
    assert text.moment(when, "No/Where") == "23 Nov 2026, 03:22"
    assert text.moment(when.replace(tzinfo=None)) == "23 Nov 2026, 03:22"
    assert [text.ago(when, when + timedelta(seconds=s)) for s in (5, 300, 7200, 90_000)] == [
        "just now", "5 min ago", "2 h ago", "1 day ago",
    ]  # fmt: skip


@given(st.text())
def test_no_mark_survives_unescaped(words: str) -> None:
    shown = text.plain(words)
    assert "\n" not in shown
    for mark in "*_`[]<>:$~#|!":
        for position, character in enumerate(shown):
            if character == mark:
                assert shown[position - 1] == "\\"


def test_escaped_words_read_as_they_were_written() -> None:
    assert text.plain("![x](http://e/i.png)").replace("\\", "").replace("\u2060", "") == "![x](http://e/i.png)"
