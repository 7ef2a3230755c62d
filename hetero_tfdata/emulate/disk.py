"""A disk of a host's own, in memory, so that it can be full: /tmp and what a job writes below /opt/ml.

Only hosts with such a fault on schedule have it. What they wrote below /opt/ml is copied to the machine's disk when they end;
of a host that is killed nothing comes back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from hetero_tfdata.emulate import syscalls
from hetero_tfdata.emulate.space import Space

__all__ = ["apart", "empty_command", "fill_command", "in_memory"]

_DISK = "/tmp"
_WRITTEN = ("model", "output", "checkpoints")
# Where these folders lie on it.
_HIDDEN = ".opt-ml"
_FILLER = ".full"
_PAGE = os.sysconf("SC_PAGE_SIZE")


def in_memory(space: Space) -> Space:
    """The same space with /tmp in memory."""
    folders = tuple(dataclasses.replace(folder, backing=None) if folder.path == _DISK else folder for folder in space.folders)
    return dataclasses.replace(space, folders=folders)


@contextlib.contextmanager
def apart(base_dir: Path) -> Iterator[None]:
    """Inside, what the job writes below /opt/ml is on the same disk as /tmp; then it is copied to where it belongs."""
    places = []
    for name in _WRITTEN:
        belongs = os.open(base_dir / name, os.O_PATH)
        shutil.copytree(base_dir / name, Path(_DISK, _HIDDEN, name), symlinks=True)
        syscalls.bind(os.path.join(_DISK, _HIDDEN, name), str(base_dir / name))
        places.append((name, belongs))
    try:
        yield
    finally:
        for name, belongs in places:
            shutil.copytree(base_dir / name, f"/proc/self/fd/{belongs}", symlinks=True, dirs_exist_ok=True)
            os.close(belongs)


def fill_command(pid: int) -> list[str]:
    """The command that leaves no room on the disk of the host with this first process.

    It takes what is free away instead of filling it, which costs no memory; a page that is left is filled.
    """
    disk = f"/proc/{pid}/root{_DISK}"
    with contextlib.suppress(OSError):
        Path(disk, _FILLER).write_bytes(bytes(_PAGE))
    found = os.statvfs(disk)
    used = (found.f_blocks - found.f_bfree) * found.f_frsize
    return _remount(pid, f"size={max(used, _PAGE)}")


def empty_command(pid: int) -> list[str]:
    """The command that undoes it."""
    with contextlib.suppress(OSError):
        os.unlink(f"/proc/{pid}/root{_DISK}/{_FILLER}")
    return _remount(pid, "size=50%")  # the kernel's own default


def _remount(pid: int, options: str) -> list[str]:
    return ["nsenter", f"--target={pid}", "--mount", "--", "mount", "-o", f"remount,{options}", _DISK]
