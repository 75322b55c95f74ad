"""Linux namespaces, capabilities and process control by ctypes. Standard library only."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
from pathlib import Path

NEW_USER, NEW_PID, NEW_NET, NEW_MOUNT, NEW_IPC = 0x10000000, 0x20000000, 0x40000000, 0x00020000, 0x08000000
NAMES = {NEW_USER: "user", NEW_NET: "network", NEW_IPC: "ipc", NEW_PID: "pid", NEW_MOUNT: "mount"}

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 24, 36, 38
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 63
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 16384, 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(*, network: bool = True) -> frozenset[int]:
    """Leave as many of the caller's namespaces as the kernel lets go; which ones were left. network: that one too.

    All at once through a user namespace, which needs no privilege, or else one by one.
    The caller must have a single thread. A new PID namespace begins with its next child.
    """
    wanted = [flag for flag in NAMES if network or flag != NEW_NET]
    user, group = os.geteuid(), os.getegid()
    if _libc.unshare(sum(wanted)) == 0:
        _map_identity(user, group)
        return frozenset(wanted)
    return frozenset(flag for flag in wanted if flag != NEW_USER and _libc.unshare(flag) == 0)


def own_proc() -> bool:
    """Show only this PID namespace in /proc. False where the kernel refuses (masked /proc)."""
    return _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "")


def own_shared_memory(size_bytes: int) -> bool:
    """A /dev/shm of its own, of at most `size_bytes`. False where the kernel refuses."""
    return _mount("tmpfs", "/dev/shm", "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, f"size={size_bytes},mode=1777")


def raise_loopback() -> bool:
    """Bring up `lo` of this network namespace, which has nothing else. False where the kernel refuses."""
    name_and_flags = struct.pack("16sh14x", b"lo", _IFF_UP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        return bool(_libc.ioctl(any_socket.fileno(), _SIOCSIFFLAGS, name_and_flags) == 0)


def keep_mounts_private() -> bool:
    """Mounts made from here on are not seen outside. False where the kernel refuses."""
    return bool(_libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None) == 0)


def die_with_parent() -> None:
    """SIGKILL when the thread that forked this process ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def adopt_orphans() -> None:
    """Descendants whose parent dies become children of this process."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def drop_privileges() -> None:
    """No capabilities, and no program can bring any back."""
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for capability in range(_LAST_CAPABILITY + 1):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if _libc.capset(ctypes.byref(header), ctypes.byref(nothing)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _map_identity(user: int, group: int) -> None:
    """The same ids inside as outside, so that files keep their owner."""
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _mount(source: str, target: str, kind: str, flags: int, data: str) -> bool:
    done = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    return bool(done == 0)
