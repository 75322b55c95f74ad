"""Figures of what training and cutting did, from data as the stages attach them."""

from __future__ import annotations

from engine.domain.experiment import LOSS_CURVE, SENSITIVITY
from pages.parts.attachments import DRAWERS
from pages.parts.charts.training import held_out_quality, sensitivity, short_place, training_loss
from pages.parts.theme import DARK, LIGHT

POINTS = [
    {"step": 0, "seconds": 0.0, "cpu_seconds": 0.0, "loss": None, "quality": 0.66},
    {"step": 90, "seconds": 60.0, "cpu_seconds": 58.0, "loss": 1.2, "quality": 0.88},
    {"step": 180, "seconds": 120.0, "cpu_seconds": 117.0, "loss": 0.7, "quality": 0.87},
]
CURVES = [{"title": "<b>Recovery</b>", "metric": "cosine", "ended": "all steps done", "points": POINTS}]
SCAN = {
    "measure": "1 − cosine", "places": ["encoder.layer.0.output.dense", "encoder.layer.1.output.dense"], "shares": [0.25, 0.5, 0.75],
    "damage": [[0.01, 0.05, 0.2], [0.02, 0.1, 0.4]], "proposed": [0.4, 0.2],
}  # fmt: skip


def test_the_best_point_is_named_and_texts_are_escaped() -> None:
    for palette in (LIGHT, DARK):
        line, best = held_out_quality(CURVES, palette).data
        assert list(line.x) == [0.0, 1.0, 2.0]
        assert list(best.y) == [0.88]
        assert "<b>" not in line.name


def test_the_loss_begins_with_the_first_batches() -> None:
    (line,) = training_loss(CURVES, LIGHT).data
    assert list(line.y) == [1.2, 0.7]


def test_each_layer_shows_its_damage_and_its_share() -> None:
    figure = sensitivity(SCAN, LIGHT)
    assert [list(trace.x) for trace in figure.data] == [[0.01, 0.02], [0.05, 0.1], [0.2, 0.4]]
    assert [note.text for note in figure.layout.annotations] == ["cut 40%", "cut 20%"]
    assert short_place("head") == "head"


def test_both_kinds_are_drawn() -> None:
    assert {LOSS_CURVE, SENSITIVITY} <= DRAWERS.keys()
