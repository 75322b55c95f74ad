"""Registers that stand beside a multiplier or a RAM move into its block.

An ECP5's blocks have registers of their own, on both sides of a multiplier (MULT18X18D) and behind a RAM (DP16KD). yosys fills
those of a Xilinx device and leaves these empty; an operand then crosses the fabric twice in one cycle. What a netlist computes
stays the same, cycle by cycle: only plain registers move, without enable or reset, of the block's own clock.

Nothing of Speedrail is needed, so that it goes into the project that is handed out: python3 block_registers.py core.json
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

Bit = int | str
"""A net of a module, or a constant."""
_OPERAND_BITS, _PRODUCT_BITS, _WORD_BITS = 18, 36, 18


def fill_block_registers(netlist: dict[str, Any]) -> None:
    """Changes a netlist that yosys' synth_ecp5 wrote as JSON."""
    for module in netlist["modules"].values():
        _Module(module).fill()


class _Module:
    """The cells of a module, and who drives and reads its nets."""

    def __init__(self, module: dict[str, Any]) -> None:
        self.cells: dict[str, dict[str, Any]] = module["cells"]
        self.register_of = {cell["connections"]["Q"][0]: name for name, cell in self.cells.items() if _is_plain(cell)}
        self.register_behind = {self.cells[name]["connections"]["DI"][0]: name for name in self.register_of.values()}
        self.loads: Counter[Bit] = Counter()
        """How many read a net. A port of the module is counted as one who reads."""
        for port in module["ports"].values():
            self.loads.update(port["bits"])
        for cell in self.cells.values():
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] != "output":
                    self.loads.update(bits)

    def fill(self) -> None:
        for cell in list(self.cells.values()):
            if cell["type"] == "MULT18X18D":
                self._fill_multiplier(cell)
            elif cell["type"] == "DP16KD":
                self._fill_memory(cell)

    def _fill_multiplier(self, cell: dict[str, Any]) -> None:
        operands = [[f"{operand}{i}" for i in range(_OPERAND_BITS)] for operand in "AB"]
        product = [f"P{i}" for i in range(_PRODUCT_BITS)]
        clocks = {self._clock_before(cell, operand) for operand in operands} | {self._clock_behind(cell, product)}
        clock = clocks.pop()
        if clocks or clock is None:  # nextpnr times a multiplier with registers on all sides or on none
            return
        for operand in operands:
            self._take_before(cell, operand)
        self._take_behind(cell, product)
        for name in ("REG_INPUTA_CLK", "REG_INPUTB_CLK", "REG_OUTPUT_CLK"):
            cell["parameters"][name] = "CLK0"
        for port, bit in {"CLK0": clock, "CE0": "1", "RST0": "0"}.items():
            cell["connections"][port] = [bit]
            cell["port_directions"][port] = "input"

    def _fill_memory(self, cell: dict[str, Any]) -> None:
        words = {side: [f"DO{side}{i}" for i in range(_WORD_BITS)] for side in "AB"}
        whole = int(cell["parameters"]["DATA_WIDTH_B"], 2) > _WORD_BITS  # both sides are one word, of port B's clock
        for sides in ["AB"] if whole else ["A", "B"]:
            word = [port for side in sides for port in words[side]]
            clock = self._clock_behind(cell, word)
            if clock is not None and [clock] == cell["connections"][f"CLK{sides[-1]}"]:
                self._take_behind(cell, word)
                cell["parameters"].update({f"REGMODE_{side}": "OUTREG" for side in sides})

    def _clock_before(self, cell: dict[str, Any], ports: list[str]) -> Bit | None:
        """Of the plain registers that drive all of these ports (or 0 does); None if something else drives one."""
        bits = {cell["connections"][port][0] for port in ports} - {"0"}
        return self._only_clock([self.register_of.get(bit) for bit in bits])

    def _clock_behind(self, cell: dict[str, Any], ports: list[str]) -> Bit | None:
        """Of the plain registers that alone read these ports; None if something else reads one."""
        bits = [cell["connections"][port][0] for port in ports if port in cell["connections"]]
        read = [bit for bit in bits if self.loads[bit]]
        return self._only_clock([self.register_behind.get(bit) if self.loads[bit] == 1 else None for bit in read])

    def _only_clock(self, registers: list[str | None]) -> Bit | None:
        clocks = {self.cells[name]["connections"]["CLK"][0] if name else None for name in registers}
        return clocks.pop() if len(clocks) == 1 else None

    def _take_before(self, cell: dict[str, Any], ports: list[str]) -> None:
        for port in ports:
            bit = cell["connections"][port][0]
            if name := self.register_of.get(bit):
                source = self.cells[name]["connections"]["DI"][0]
                cell["connections"][port] = [source]
                self.loads[source] += 1
                self.loads[bit] -= 1
                if not self.loads[bit]:
                    self._remove(name)

    def _take_behind(self, cell: dict[str, Any], ports: list[str]) -> None:
        for port in ports:
            bit = cell["connections"].get(port, [None])[0]
            if bit is not None and self.loads[bit]:
                name = self.register_behind[bit]
                cell["connections"][port] = self.cells[name]["connections"]["Q"]
                self._remove(name)

    def _remove(self, name: str) -> None:
        connections = self.cells.pop(name)["connections"]
        self.loads[connections["DI"][0]] -= 1
        del self.register_of[connections["Q"][0]]


def _is_plain(cell: dict[str, Any]) -> bool:
    """A register that takes what comes every cycle: no enable, no reset, the rising edge."""
    if cell["type"] != "TRELLIS_FF":
        return False
    parameters, connections = cell["parameters"], cell["connections"]
    return (
        parameters["CEMUX"].strip() == "1"
        and parameters["CLKMUX"] == "CLK"
        and parameters["REGSET"] == "RESET"
        and connections.get("LSR") in (None, ["0"])
        and "M" not in connections
    )


def main() -> None:
    """Of the file named on the command line."""
    path = Path(sys.argv[1])
    netlist = json.loads(path.read_text())
    fill_block_registers(netlist)
    path.write_text(json.dumps(netlist))


if __name__ == "__main__":
    main()
