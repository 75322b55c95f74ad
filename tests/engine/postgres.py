"""A PostgreSQL server of the test's own: Debian's binaries, a socket and a port on loopback, gone afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binaries() -> Path:
    """Where initdb and postgres are. Raises AssertionError that names what is missing."""
    found = sorted(path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists())
    on_path = shutil.which("initdb")
    assert found or on_path, "PostgreSQL is missing: run tests/install-postgres.sh, or install the package 'postgresql'."
    return found[-1] if found else Path(str(on_path)).parent


@contextmanager
def running(directory: Path) -> Iterator[str]:
    """A URL for `settings.database_url`. directory: empty, not below a folder that others may not enter."""
    data, tools = directory / "data", binaries()
    as_user = _unprivileged(directory)
    _call([*as_user, str(tools / "initdb"), "-D", str(data), "-U", "speedrail", "-A", "trust", "--no-sync", "-E", "UTF8"])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = f"-p {port} -h 127.0.0.1 -k {directory} -F"
    control = [*as_user, str(tools / "pg_ctl"), "-D", str(data), "-w", "-t", "60"]
    _call([*control, "-o", options, "-l", str(directory / "server.log"), "start"])
    try:
        yield f"postgresql://speedrail@127.0.0.1:{port}/postgres"
    finally:
        _call([*control, "-m", "immediate", "stop"])


def _unprivileged(directory: Path) -> list[str]:
    """PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return []
    shutil.chown(directory, "nobody")
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
