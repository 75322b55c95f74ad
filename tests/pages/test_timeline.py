"""The timeline of a spread model as a figure."""

from __future__ import annotations

import pytest

from pages.parts.charts.timeline import timeline
from pages.parts.theme import DARK, LIGHT, Palette

DATA = {
    "ranks": ["rank 0", "rank <b>1</b>"], "left_out": 0, "communication": 0.1, "bubble": 0.5,
    "events": [[0, "compute", 0, 0.0, 4.0, 0], [0, "link", 0, 4.0, 4.0, 2048], [1, "link", 0, 0.0, 5.0, 0], [1, "compute", 0, 5.0, 9.0, 0]],
}  # fmt: skip


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_a_row_for_each_rank_and_a_bar_for_each_event(palette: Palette) -> None:
    figure = timeline(DATA, palette)
    computing, linking = figure.data
    assert list(computing.x) == [4.0, 4.0] and list(computing.base) == [0.0, 5.0]
    assert list(linking.base) == [4.0, 0.0]
    assert set(computing.text) == {""}  # there is but one microbatch
    assert "2,048 bytes handed on" in linking.hovertext[0] and "waits for data" in linking.hovertext[1]
    # words of a host are shown, not interpreted
    assert all("<b>1" not in str(y) for y in computing.y)


def test_microbatches_are_numbered_where_there_are_several() -> None:
    events = [[0, "compute", 0, 0.0, 1.0, 0], [0, "compute", 1, 1.0, 2.0, 0], [0, "link", 1, 2.0, 2.0, 9]]
    computing, linking = timeline({**DATA, "events": events}, LIGHT).data
    assert list(computing.text) == ["1", "2"] and list(linking.text) == [""]
