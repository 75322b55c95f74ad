"""Two hosts on one machine: network namespaces joined by a link of a given bandwidth and latency.

Bandwidth is a token bucket (`tc tbf`) on each end. Latency, for which this kernel has no
netem, is a relay between two TAP devices that holds every frame back. Needs root.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import select
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_CLONE_NEWNET = 0x40000000
_NAMES = Path("/etc/netns")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace with one device."""

    namespace: str
    address: str
    device: str

    def start(self, command: list[str], environment: dict[str, str], **options: object) -> subprocess.Popen[str]:
        """In this host's network, which gloo is told to use."""
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": self.device, **environment}
        return subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment, start_new_session=True, **options,  # type: ignore[call-overload]
        )  # fmt: skip

    def cut_off(self) -> None:
        _ip("-n", self.namespace, "link", "set", self.device, "down")


@contextmanager
def two_hosts(
    name: str, *, mbit: int = 1000, latency: float = 0.0, mtu: int = 1500, burst: str = "256kb"
) -> Iterator[tuple[Host, Host]]:
    """One pair at a time on a machine: two disturb each other.

    latency: seconds that a frame is held back, each way. mtu: bytes of a frame; the larger, the less work has the relay.
    burst: what an idle link lets through at once, whatever its bandwidth.
    """
    with FileLock(Path(tempfile.gettempdir()) / "speedrail-two-hosts.lock"):
        yield from _two_hosts(name, mbit, latency, mtu, burst)


def _two_hosts(name: str, mbit: int, latency: float, mtu: int, burst: str) -> Iterator[tuple[Host, Host]]:
    hosts = (Host(f"{name}-a", "10.77.0.1", "eth0"), Host(f"{name}-b", "10.77.0.2", "eth0"))
    stop = threading.Event()
    try:
        for host in hosts:
            _names(host.namespace, hosts)
            _ip("netns", "add", host.namespace)
            _ip("-n", host.namespace, "link", "set", "lo", "up")
        if latency:
            relay = threading.Thread(target=_relay, args=([_tap(h) for h in hosts], latency, stop), daemon=True)
            relay.start()
        else:
            first, second = hosts
            _ip("link", "add", "eth0", "netns", first.namespace, "type", "veth", "peer", "name", "eth0", "netns", second.namespace)
        for host in hosts:
            _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", host.device)
            _ip("-n", host.namespace, "link", "set", host.device, "mtu", str(mtu), "up")
            rate = ["root", "tbf", "rate", f"{mbit}mbit", "burst", burst, "latency", "50ms"]
            _call("tc", "-n", host.namespace, "qdisc", "add", "dev", host.device, *rate)
        yield hosts
    finally:
        stop.set()
        for host in hosts:
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", host.namespace)
            shutil.rmtree(_NAMES / host.namespace, ignore_errors=True)


def _names(namespace: str, hosts: tuple[Host, Host]) -> None:
    """What `ip netns exec` lays over /etc: names from a file alone. The machine's name server is out of reach in there,
    and every look-up of a peer's name would wait for it."""
    folder = _NAMES / namespace
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["127.0.0.1 localhost", *(f"{host.address} {host.namespace}" for host in hosts)]
    (folder / "hosts").write_text("\n".join(lines) + "\n")
    (folder / "nsswitch.conf").write_text("hosts: files\n")


def _tap(host: Host) -> int:
    """A TAP device of that name in the host's network; its file descriptor belongs to this process."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    theirs = os.open(Path("/run/netns") / host.namespace, os.O_RDONLY)
    _setns(theirs)
    try:
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH14x", host.device.encode(), _IFF_TAP | _IFF_NO_PI))
    finally:
        _setns(own)
        os.close(own)
        os.close(theirs)
    return tap


def _relay(taps: list[int], latency: float, stop: threading.Event) -> None:
    """Frames from each end come out at the other, `latency` seconds later."""
    waiting: list[tuple[float, int, int, bytes]] = []
    count = 0
    while not stop.is_set():
        patience = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 0.2
        ready, _, _ = select.select(taps, [], [], patience)
        for tap in ready:
            with suppress(BlockingIOError, OSError):
                while frame := os.read(tap, 65536):
                    count += 1
                    heapq.heappush(waiting, (time.monotonic() + latency, count, taps[1 - taps.index(tap)], frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, target, frame = heapq.heappop(waiting)
            with suppress(BlockingIOError, OSError):
                os.write(target, frame)
    for tap in taps:
        os.close(tap)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*words: str) -> None:
    _call("ip", *words)


def _call(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
