"""How long tier 1 takes: from a network's shapes to the best array on a board, every layer's cycles among it.

    python -m benchmarks.fpga_tier1 [--json benchmarks/results/fpga_tier1.json]

Seconds are the process's own (CPU), each in a process state where nothing is cached.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from engine.domain.errors import InvalidInput
from engine.fpga.array import array_cycles, product_cycles
from engine.fpga.search import find_design
from engine.hardware.fpgas import fpga_of
from engine.hardware.networks import network

NETWORKS = ("resnet-18", "resnet-50", "mobilenet-v2", "vgg-16", "minilm-l6", "bert-base", "llama-7b")
BOARDS = ("ecp5-85f", "zcu104", "alveo-u250")


def timed(name: str, board: str) -> dict[str, Any]:
    array_cycles.cache_clear()
    product_cycles.cache_clear()
    began = time.process_time()
    shapes = network(name, sequence=128, new_tokens=32)
    try:
        found = find_design(shapes, fpga_of(board))
    except InvalidInput as error:
        return {"network": name, "board": board, "seconds": round(time.process_time() - began, 3), "refused": error.what}
    made = found.estimate
    return {
        "network": name, "board": board, "seconds": round(time.process_time() - began, 3), "designs": found.tried,
        "array": f"{found.design.cores} x {found.design.size} x {found.design.size}", "latency_ms": round(made.seconds * 1e3, 3),
        "bound": str(made.bound), "utilisation": round(made.forward.utilisation, 3),
        "decode_bound": str(made.decode.bound) if made.decode else "",
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    fpga_of(BOARDS[0])  # the catalogue is read once a process
    rows = [timed(name, board) for name in NETWORKS for board in BOARDS]
    for row in rows:
        print(", ".join(f"{key} {value}" for key, value in row.items() if value != ""))
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    return 0 if all(row["seconds"] < 1 for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
