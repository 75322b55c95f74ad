"""The FPGA catalogue: complete, founded, and the technique offers all of it."""

from __future__ import annotations

import pytest

from engine.domain.errors import NotFound
from engine.hardware.entries import SourceStatus
from engine.hardware.fpgas import fpga_of, fpgas
from engine.techniques.fpga.spec import Device


def test_every_figure_has_a_source_and_lies_in_its_range() -> None:
    for board in fpgas():
        for name, figure in board.figures().items():
            assert figure.source, (board.id, name)
            assert figure.low <= figure.value <= figure.high, (board.id, name)


def test_clock_and_energy_are_ranges_and_nobody_claims_to_have_measured_them() -> None:
    for board in fpgas():
        assert board.clock_mhz.low < board.clock_mhz.high, board.id
        assert board.power_w.low < board.power_w.high, board.id
        assert board.power_w.status is not SourceStatus.VERIFIED, board.id


def test_the_technique_offers_the_catalogue() -> None:
    assert [str(device) for device in Device] == [board.id for board in fpgas()]


def test_an_unknown_board_is_refused_with_the_known_ones() -> None:
    with pytest.raises(NotFound, match="zcu104"):
        fpga_of("zcu105")
