from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine.domain.errors import Cancelled
from engine.execution.lock import FileLock, HostLock, holder, is_locked

HOLDER = """
import sys, time
from pathlib import Path
from engine.execution.lock import FileLock
FileLock(Path(sys.argv[1])).acquire("elsewhere")
print("held", flush=True)
time.sleep(600)
"""


def test_excludes_within_one_process(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "a.lock"), FileLock(tmp_path / "a.lock")
    assert first.try_acquire("me")
    assert not second.try_acquire()
    assert holder(first.path) == f"{os.getpid()} me"
    first.release()
    assert second.try_acquire()
    second.release()
    assert not is_locked(tmp_path / "a.lock")


def test_kernel_releases_the_lock_of_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    assert is_locked(path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not is_locked(path)


def test_waiting_can_be_given_up(tmp_path: Path) -> None:
    def give_up(_: str) -> None:
        raise Cancelled("enough")

    with HostLock(tmp_path).hold("first"), pytest.raises(Cancelled):
        HostLock(tmp_path).acquire("second", give_up)
    # neither the host nor the turnstile stays taken
    with HostLock(tmp_path).hold("third"):
        pass


def test_who_offers_a_turn_really_gives_it_away(tmp_path: Path) -> None:
    order: list[str] = []
    waits = threading.Event()

    def short_work() -> None:
        with HostLock(tmp_path).hold("short", lambda holder: waits.set()):
            order.append("short")

    long = HostLock(tmp_path)
    with long.hold("long"):
        order.append("long 1")
        thread = threading.Thread(target=short_work)
        thread.start()
        assert waits.wait(10)
        long.offer_turn("long")
        order.append("long 2")
    thread.join()
    assert order == ["long 1", "short", "long 2"]


def test_offering_a_turn_to_nobody_keeps_the_host(tmp_path: Path) -> None:
    lock = HostLock(tmp_path)
    with lock.hold("work"):
        began = time.monotonic()
        lock.offer_turn("work")
        assert is_locked(tmp_path / "host.lock")
        assert time.monotonic() - began < 5
