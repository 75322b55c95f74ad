"""What moves into a multiplier's or a RAM's block, and what must not."""

from __future__ import annotations

from typing import Any

from engine.fpga.block_registers import fill_block_registers

CLOCK = 1


class Netlist:
    """A module under construction; nets are numbers."""

    def __init__(self) -> None:
        self.cells: dict[str, dict[str, Any]] = {}
        self.ports: dict[str, dict[str, Any]] = {}
        self._nets = CLOCK

    def nets(self, count: int) -> list[int]:
        self._nets += count
        return list(range(self._nets - count + 1, self._nets + 1))

    def cell(self, name: str, kind: str, outputs: dict[str, Any], inputs: dict[str, Any], **parameters: str) -> None:
        directions = dict.fromkeys(outputs, "output") | dict.fromkeys(inputs, "input")
        connections = {port: [bit] for port, bit in (outputs | inputs).items()}
        self.cells[name] = {"type": kind, "parameters": parameters, "connections": connections, "port_directions": directions}

    def register(self, name: str, to: int, source: int, enable: str = "1 ") -> None:
        self.cell(
            name, "TRELLIS_FF", {"Q": to}, {"DI": source, "CLK": CLOCK, "LSR": "0"}, CEMUX=enable, CLKMUX="CLK", REGSET="RESET"
        )

    def registers(self, name: str, sources: list[int], enable: str = "1 ") -> list[int]:
        found = self.nets(len(sources))
        for i, (to, source) in enumerate(zip(found, sources, strict=True)):
            self.register(f"{name}{i}", to, source, enable)
        return found

    def multiplier(self, a: list[int], b: list[int]) -> list[int]:
        """The product; the operands' upper bits are copies of the sign and 0."""
        product = self.nets(36)
        a_bits, b_bits = a + [a[-1]] * (18 - len(a)), [*b, *["0"] * (18 - len(b))]
        operands = {f"A{i}": bit for i, bit in enumerate(a_bits)} | {f"B{i}": bit for i, bit in enumerate(b_bits)}
        self.cell("multiplier", "MULT18X18D", {f"P{i}": bit for i, bit in enumerate(product)}, operands)
        return product

    def output(self, name: str, bits: list[int]) -> None:
        self.ports[name] = {"direction": "output", "bits": bits}

    def filled(self) -> dict[str, dict[str, Any]]:
        fill_block_registers({"modules": {"top": {"ports": self.ports, "cells": self.cells}}})
        return self.cells

    def bits(self, cell: str, *ports: str) -> list[int]:
        return [self.cells[cell]["connections"][port][0] for port in ports]


def _multiplied(netlist: Netlist, enable: str = "1 ") -> tuple[list[int], list[int], list[int], list[int]]:
    """(a, b, b's registers, product's registers) of a multiplier with registers on all sides."""
    a, b = netlist.nets(8), netlist.nets(8)
    held_a, held_b = netlist.registers("a", a), netlist.registers("b", b, enable)
    product = netlist.multiplier(held_a, held_b)
    held = netlist.registers("p", product[:16])
    netlist.output("result", held)
    return a, b, held_b, held


def test_registers_on_both_sides_of_a_multiplier_move_into_it() -> None:
    netlist = Netlist()
    a, b, _, held = _multiplied(netlist)
    cells = netlist.filled()
    assert set(cells) == {"multiplier"}
    assert netlist.bits("multiplier", "A0", "A7", "A17", "B0", "B17") == [a[0], a[7], a[7], b[0], "0"]
    assert netlist.bits("multiplier", "P0", "P15") == [held[0], held[15]]
    parameters = cells["multiplier"]["parameters"]
    assert {parameters[f"REG_{name}_CLK"] for name in ("INPUTA", "INPUTB", "OUTPUT")} == {"CLK0"}
    assert netlist.bits("multiplier", "CLK0", "CE0", "RST0") == [CLOCK, "1", "0"]


def test_a_register_that_others_read_as_well_also_stays() -> None:
    netlist = Netlist()
    _, b, held_b, _ = _multiplied(netlist)
    netlist.output("neighbour", held_b)
    cells = netlist.filled()
    assert set(cells) == {"multiplier", *(f"b{i}" for i in range(8))}
    assert netlist.bits("multiplier", "B0") == [b[0]] and netlist.bits("b0", "DI", "Q") == [b[0], held_b[0]]


def test_nothing_moves_where_a_register_has_an_enable() -> None:
    netlist = Netlist()
    _multiplied(netlist, enable="CE")
    assert len(netlist.filled()) == 1 + 8 + 8 + 16 and not netlist.cells["multiplier"]["parameters"]


def test_nothing_moves_where_the_product_itself_is_read() -> None:
    netlist = Netlist()
    _multiplied(netlist)
    netlist.output("at_once", netlist.bits("multiplier", "P3"))
    assert len(netlist.filled()) == 1 + 8 + 8 + 16


def _memory(netlist: Netlist, width: int, clock: int = CLOCK) -> tuple[list[int], list[int]]:
    low, high = netlist.nets(18), netlist.nets(18)
    outputs = {f"DOA{i}": bit for i, bit in enumerate(high)} | {f"DOB{i}": bit for i, bit in enumerate(low)}
    netlist.cell(
        "memory", "DP16KD", outputs, {"CLKA": CLOCK, "CLKB": clock}, DATA_WIDTH_B=f"{width:b}", REGMODE_A="NOREG", REGMODE_B="NOREG"
    )
    return low, high


def test_the_register_behind_a_memory_moves_into_it() -> None:
    netlist = Netlist()
    low, _ = _memory(netlist, 18)
    held = netlist.registers("word", low[:9])
    netlist.output("word", held)
    assert set(netlist.filled()) == {"memory"}
    assert netlist.bits("memory", "DOB0", "DOB8") == [held[0], held[8]]
    parameters = netlist.cells["memory"]["parameters"]
    assert (parameters["REGMODE_A"], parameters["REGMODE_B"]) == ("NOREG", "OUTREG")


def test_a_word_over_both_sides_of_a_memory_moves_as_a_whole_or_not_at_all() -> None:
    netlist = Netlist()
    low, high = _memory(netlist, 36)
    netlist.output("word", netlist.registers("word", [*low, *high]))
    assert set(netlist.filled()) == {"memory"}
    assert netlist.cells["memory"]["parameters"]["REGMODE_A"] == netlist.cells["memory"]["parameters"]["REGMODE_B"] == "OUTREG"
    netlist = Netlist()
    low, high = _memory(netlist, 36)
    netlist.output("word", [*netlist.registers("word", low), high[0]])
    assert len(netlist.filled()) == 1 + 18


def test_a_memory_of_another_clock_keeps_its_registers_outside() -> None:
    netlist = Netlist()
    low, _ = _memory(netlist, 18, clock=netlist.nets(1)[0])
    netlist.output("word", netlist.registers("word", low))
    assert len(netlist.filled()) == 1 + 18
