"""Linux's calls for namespaces and mounts, which Python 3.10 does not have."""

from __future__ import annotations

import ctypes
import os

__all__ = [
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "bind",
    "make_read_only",
    "mount",
    "private_mounts",
    "setns",
    "unshare",
]

# linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
# linux/mount.h
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE, _MS_RELATIME = 32, 4096, 16384, 1 << 18, 1 << 21

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Gives this process namespaces of its own; with CLONE_NEWPID, its next child."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(path: str, flag: int) -> None:
    """Enters the namespace of that kind that the file stands for."""
    with open(path, "rb") as file:
        _checked(_libc.setns(file.fileno(), ctypes.c_int(flag)), f"setns {path}")


def mount(source: str, target: str, kind: str | None, flags: int = 0, options: str | None = None) -> None:
    """mount(2)."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    code = _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    _checked(code, f"mount {kind or source} on {target}")


def bind(source: str, target: str) -> None:
    """Shows a file, or a folder with all that is mounted below it, in a second place.

    With what is mounted below it, because a user namespace may not look under other people's mounts.
    """
    mount(source, target, None, _MS_BIND | _MS_REC)


def make_read_only(target: str) -> None:
    """Forbids writing through a mount made by `bind`; what else it forbids stays, as a user namespace must leave it."""
    before = os.statvfs(target).f_flag
    same = (os.ST_NOSUID, os.ST_NODEV, os.ST_NOEXEC, os.ST_NOATIME, os.ST_NODIRATIME, os.ST_RELATIME)
    # What statvfs(3) tells has the same numbers as mount(2)'s flags, but for the last one.
    kept = sum(flag for flag in same[:-1] if before & flag) | (_MS_RELATIME if before & same[-1] else 0)
    mount("none", target, None, _MS_REMOUNT | _MS_BIND | MS_RDONLY | kept)


def private_mounts() -> None:
    """From now on no mount of this mount namespace shows in another one."""
    mount("none", "/", None, _MS_REC | _MS_PRIVATE)


def _checked(code: int, what: str) -> None:
    if code != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
