"""What a hostile model can and cannot do in its child, tried for real."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.domain.errors import Cancelled, ChildError, IntakeError, Problem, StageError
from engine.domain.experiment import Progress
from engine.sandbox import Child, Limits, enter, landlock, start_child, tree
from engine.sandbox.enter import level_of

LIMITS = Limits(memory_bytes=2**31, cpu_seconds=60, wall_seconds=60.0, file_bytes=2**26, processes=64)
ROOT = Path(__file__).parent.parent.parent


class Hostile:
    """A hostile child with one readable and one writable folder."""

    def __init__(self, folder: Path, kind: str = "told", limits: Limits = LIMITS) -> None:
        self.readable, self.writable = folder / "model", folder / "scratch"
        for path in (self.readable, self.writable):
            path.mkdir()
        (self.readable / "weights").write_text("weights")
        self.child = start_child(
            kind, readable=[self.readable], writable=[self.writable], limits=limits, log=folder / "child.log",
            threads=1, module="tests.engine.hostile_child",
        )  # fmt: skip

    def told(self, code: str, timeout: float = 20.0) -> Any:
        return self.child.ask({"code": textwrap.dedent(code)}, timeout=timeout)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Hostile]]:
    started: list[Child] = []

    def make(kind: str = "told", **limits: Any) -> Hostile:
        folder = tmp_path / f"hostile-{len(started)}"
        folder.mkdir()
        hostile = Hostile(folder, kind, replace(LIMITS, **limits))
        started.append(hostile.child)
        return hostile

    yield make
    for child in started:
        child.kill()


def gone(pids: list[int], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(tree.is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(tree.is_alive(pid) for pid in pids)


def test_isolation_is_full_here(start: Callable[..., Hostile]) -> None:
    hostile = start()
    assert hostile.child.level == "full", hostile.child.isolation
    assert {"landlock", "user", "network", "ipc", "pid", "mount"} <= set(hostile.child.isolation)


def test_ranks_talk_over_a_loopback_of_their_own_and_reach_nothing_else(start: Callable[..., Hostile]) -> None:
    talk = """
        import socket
        server = socket.create_server(("127.0.0.1", 0))
        said = bool(socket.create_connection(server.getsockname()))
    """
    ranks = start("told+ranks")
    assert ranks.child.level == "full" and ranks.told(talk) is True
    assert "PermissionError" in start().told(talk)
    with socket.create_server(("127.0.0.1", 0)) as ours:
        reach = f"import socket; said = bool(socket.create_connection({ours.getsockname()!r}, 2))"
        assert "ConnectionRefusedError" in ranks.told(reach)
    assert "OSError" in ranks.told("import socket; said = bool(socket.create_connection(('1.1.1.1', 80), 2))")


def test_levels() -> None:
    assert level_of(("landlock", "user", "network", "ipc", "pid", "mount")) == "full"
    assert level_of(("landlock", "network")) == "partial"
    assert level_of(("landlock",)) == "partial"
    assert level_of(("user", "network", "ipc", "pid", "mount")) == "none"


@pytest.mark.parametrize("kind", ["told", "bare"])
def test_files(start: Callable[..., Hostile], tmp_path: Path, kind: str) -> None:
    hostile = start(kind)
    secret = tmp_path / "secret"
    secret.write_text("token")
    assert hostile.told(f"said = open({str(hostile.readable / 'weights')!r}).read()") == "weights"
    assert hostile.told(f"said = open({str(hostile.writable / 'mine')!r}, 'w').write('abc')") == 3
    assert "PermissionError" in hostile.told(f"open({str(secret)!r}).read()")
    assert "PermissionError" in hostile.told(f"open({str(tmp_path / 'new')!r}, 'w')")
    assert "PermissionError" in hostile.told(f"open({str(hostile.readable / 'weights')!r}, 'a')")
    assert "PermissionError" in hostile.told(f"import os; os.listdir({str(tmp_path)!r})")
    assert "PermissionError" in hostile.told(f"import os; os.symlink({str(secret)!r}, {str(tmp_path / 'link')!r})")
    hostile.told(f"import os; os.symlink({str(secret)!r}, {str(hostile.writable / 'link')!r})")
    assert "PermissionError" in hostile.told(f"open({str(hostile.writable / 'link')!r}).read()")
    assert "PermissionError" in hostile.told("open('/etc/shadow').read()")
    assert "PermissionError" in hostile.told(f"open({str(ROOT / 'pyproject.toml')!r}).read()")
    assert hostile.told("import os; said = os.path.expanduser('~') == os.getcwd() and open('x', 'w').write('y')") == 1


def test_what_it_writes_cannot_be_executed(start: Callable[..., Hostile]) -> None:
    hostile = start()
    program = str(hostile.writable / "program")
    hostile.told(f"import shutil; shutil.copy('/bin/true', {program!r})")
    assert "PermissionError" in hostile.told(f"import subprocess; subprocess.run([{program!r}])")
    assert hostile.told("import subprocess; said = subprocess.run(['/bin/true']).returncode") == 0


@pytest.mark.parametrize("kind", ["told", "bare"])
def test_no_network(start: Callable[..., Hostile], kind: str) -> None:
    hostile = start(kind)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        said = hostile.told(f"import socket; socket.create_connection(('127.0.0.1', {port}), 2); said = 'connected'")
    assert "Error" in said
    said = hostile.told("import socket; said = socket.create_server(('127.0.0.1', 0)).getsockname()")
    assert "Error" in said
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0speedrail-test-secret")
        server.listen()
        said = hostile.told(
            "import socket; socket.socket(socket.AF_UNIX).connect('\\0speedrail-test-secret'); said = 'connected'"
        )
    assert "Error" in said


def test_other_processes_are_out_of_sight_and_reach(start: Callable[..., Hostile]) -> None:
    hostile = start()
    assert set(hostile.told("import os; said = [p for p in os.listdir('/proc') if p.isdigit()]")) == {"1", "2"}
    assert "ProcessLookupError" in hostile.told(f"import os; os.kill({os.getpid()}, 0)")


def test_other_processes_are_out_of_reach_without_namespaces(start: Callable[..., Hostile]) -> None:
    hostile = start("bare")
    assert hostile.child.level == "partial"
    assert "PermissionError" in hostile.told(f"import os; os.kill({os.getpid()}, 15)")
    assert "PermissionError" in hostile.told(f"said = open('/proc/{os.getpid()}/environ').read()")


def test_the_environment_is_cleared(start: Callable[..., Hostile], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEEDRAIL_OWNER_TOKEN", "secret")
    assert "SPEEDRAIL_OWNER_TOKEN" not in start().told("import os; said = dict(os.environ)")


def test_no_privilege_is_left(start: Callable[..., Hostile]) -> None:
    status = start().told("said = open('/proc/self/status').read()")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert fields["NoNewPrivs"] == "1"


ORPHAN = """
    import os, subprocess, time
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            subprocess.Popen(['/bin/sleep', '1000'])
            os.write(writing, b'x')
            time.sleep(1000)
        os._exit(0)
    os.wait()
    os.read(reading, 1)
    subprocess.Popen(['/bin/sleep', '1000'])
"""
"""An orphan in a session of its own with a child, and a child."""


@pytest.mark.parametrize("kind", ["told", "bare"])
def test_kill_leaves_nothing(start: Callable[..., Hostile], kind: str) -> None:
    hostile = start(kind)
    hostile.told(ORPHAN)
    family = [hostile.child.pid, *tree.descendants(hostile.child.pid)]
    assert len(family) >= 5
    hostile.child.kill()
    assert not [pid for pid in family if tree.is_alive(pid)]
    assert not hostile.child.scratch.exists()
    with pytest.raises(ChildError):
        hostile.told("said = 1")


PARENT = """
import os, sys, threading, time
from pathlib import Path
from engine.sandbox import start_child, tree, Limits
folder = Path(sys.argv[1])
children = []
def begin():
    children.append(start_child(sys.argv[2], readable=[], writable=[folder], limits=Limits(2**31, 60, 60.0, 2**26),
                                log=folder / "log", threads=1, module="tests.engine.hostile_child"))
thread = threading.Thread(target=begin)
thread.start()
thread.join()  # the thread that started it ends; the child must not
children[0].ask({"code": %r}, timeout=20)
print(children[0].scratch, children[0].pid, *tree.descendants(children[0].pid), flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("kind", ["told", "bare"])
def test_it_dies_with_its_parent(tmp_path: Path, kind: str) -> None:
    script = PARENT % textwrap.dedent(ORPHAN)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), kind], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        scratch, *words = parent.stdout.readline().split()
        family = [int(word) for word in words]
        alive = [tree.is_alive(pid) for pid in family]
        parent.send_signal(signal.SIGKILL)
    assert len(family) >= 5
    assert all(alive)
    assert gone(family)
    assert not Path(scratch).exists()


@pytest.mark.parametrize(
    ("limits", "code", "names"),
    [
        ({"memory_bytes": 2**28}, "x = bytearray(2**29); import time; time.sleep(30)", "memory"),
        ({"wall_seconds": 1.0}, "import time; time.sleep(30)", "longer"),
        ({"processes": 8}, "import subprocess, time; [subprocess.Popen(['/bin/sleep', '30']) for _ in range(12)]; time.sleep(30)", "processes"),
        ({"file_bytes": 2**22}, "[open(str(i), 'wb').write(bytes(2**20)) for i in range(8)]; import time; time.sleep(30)", "wrote"),
        ({"cpu_seconds": 1}, "while True: pass", "SIG"),
    ],
)  # fmt: skip
def test_limits(start: Callable[..., Hostile], limits: dict[str, Any], code: str, names: str) -> None:
    hostile = start(**limits)
    began = time.monotonic()
    with pytest.raises(ChildError, match=names):
        hostile.told(code)
    assert time.monotonic() - began < 15
    assert not tree.is_alive(hostile.child.pid)


def test_no_file_above_the_limit(start: Callable[..., Hostile]) -> None:
    hostile = start(file_bytes=2**20)
    said = hostile.told("import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); open('x', 'wb').write(bytes(2**21))")
    assert "File too large" in said


def test_peak_memory_is_what_was_held(start: Callable[..., Hostile]) -> None:
    hostile = start()
    before = hostile.child.peak_pss_bytes()
    hostile.told("x = bytearray(b'x') * 2**28; del x")
    grown = hostile.child.peak_pss_bytes() - before
    assert 2**28 * 0.98 < grown < 2**28 * 1.1


@pytest.mark.parametrize(
    "said",
    [
        "b'[' * 100_000 + b'\\n'",
        "b'not json\\n'",
        "b'[1]\\n'",
        "b'{\"surprise\": 1}\\n'",
        "b'x' * 2**25 + b'\\n'",
        "b'{\"progress\": {\"stage\": 3}}\\n'",
        "b'{\"problem\": {\"kind\": \"IntakeError\"}}\\n'",
    ],
)
def test_nonsense_on_the_channel_is_an_error(start: Callable[..., Hostile], said: str) -> None:
    with pytest.raises(ChildError):
        start().told(f"channel._socket.sendall({said}); import time; time.sleep(30)")


def test_death_tells_how_and_shows_the_log(start: Callable[..., Hostile]) -> None:
    with pytest.raises(ChildError, match="exit code 3") as caught:
        start().told("import os; print('last words', flush=True); os._exit(3)")
    assert "last words" in caught.value.detail
    with pytest.raises(ChildError, match="SIGSEGV"):
        start().told("import ctypes; ctypes.string_at(0)")


def test_silence_is_an_error(start: Callable[..., Hostile]) -> None:
    hostile = start()
    with pytest.raises(ChildError, match=r"no answer within 0\.5 s"):
        hostile.told("import time; time.sleep(30)", timeout=0.5)
    assert not tree.is_alive(hostile.child.pid)


def test_progress_and_problems_come_through(start: Callable[..., Hostile]) -> None:
    hostile = start()
    heard: list[Progress] = []
    code = "channel.send({'progress': {'stage': 'pruning', 'fraction': 0.5}}); said = 'done'"
    assert hostile.child.ask({"code": code}, timeout=20, report=heard.append) == "done"
    assert heard == [Progress("pruning", 0.5)]
    problem = {"kind": "IntakeError", "what": "Truncated.", "mend": "Upload it again.", "where": "x", "detail": ""}
    with pytest.raises(IntakeError) as caught:
        hostile.told(f"channel.send({{'problem': {problem}}})")
    assert caught.value.as_problem() == Problem(**problem)


def test_a_childs_words_are_cut_short(start: Callable[..., Hostile]) -> None:
    code = "channel.send({'problem': {'kind': 'StageError', 'what': 'x' * 10**6, 'detail': 'y' * 10**6}})"
    with pytest.raises(StageError) as caught:
        start().told(code)
    assert len(caught.value.what) == 2000 and len(caught.value.detail) == 20_000


def test_a_tick_that_raises_kills(start: Callable[..., Hostile]) -> None:
    hostile = start()

    def cancel() -> None:
        raise Cancelled("Cancelled on request.")

    with pytest.raises(Cancelled):
        hostile.child.ask({"code": "import time; time.sleep(30)"}, timeout=20, tick=cancel)
    assert not tree.is_alive(hostile.child.pid)


def test_less_isolation_than_demanded_is_refused(tmp_path: Path) -> None:
    before = set(Path(tempfile.gettempdir()).glob("speedrail-child-*"))
    with pytest.raises(ChildError, match="partial; full is demanded"):
        start_child(
            "bare", readable=[], writable=[], limits=LIMITS, log=tmp_path / "log", threads=1, least_level="full",
            module="tests.engine.hostile_child",
        )  # fmt: skip
    assert set(Path(tempfile.gettempdir()).glob("speedrail-child-*")) <= before


def test_accelerators_are_for_the_kinds_that_ask_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/tty stands in for a board."""
    monkeypatch.setattr(enter, "ACCELERATORS", ("tty", "no-such-board*"))
    profile = enter.Profile([], [], [], 0, 0, 0, 0, "/tmp")
    without, with_it = (dict(enter._allowed(replace(profile, accelerators=each), own_shm=False)) for each in (False, True))
    assert set(with_it) - set(without) == {Path("/dev/tty")}
    assert with_it[Path("/dev/tty")] == landlock.READ | landlock.WRITE_FILE | landlock.IOCTL_DEV
