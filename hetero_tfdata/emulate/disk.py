"""A disk of a host's own, in memory, so that it can be full: /tmp and what a job writes below /opt/ml.

Only hosts with such a fault on schedule have it. What they wrote below /opt/ml is copied to the machine's disk when they end;
of a host that is killed nothing comes back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from hetero_tfdata.emulate import syscalls
from hetero_tfdata.emulate.space import Space
from hetero_tfdata.errors import ConfigurationError

__all__ = ["apart", "empty", "fill", "in_memory"]

_DISK = "/tmp"
_WRITTEN = ("model", "output", "checkpoints")
# Where these folders lie on it.
_HIDDEN = ".opt-ml"
_FILLER = ".full"
_ATTEMPTS = 5
_SLACK_BYTES, _CHUNK_BYTES = 8 << 20, 1 << 16


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


def fill(pid: int, run: Callable[[list[str]], object]) -> None:
    """Leaves no room on the disk of the host with this first process; `run` runs a command with the right to mount.

    What is free is taken away but for a little, which is filled: that costs little memory and is no race with a host that
    writes.
    """
    disk = f"/proc/{pid}/root{_DISK}"
    for attempt in range(_ATTEMPTS):
        found = os.statvfs(disk)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        try:
            run(_remount(pid, f"size={used + _SLACK_BYTES}"))
            break
        except ConfigurationError:  # it has written more than that meanwhile
            if attempt == _ATTEMPTS - 1:
                raise
    filler = os.open(os.path.join(disk, _FILLER), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        while os.write(filler, bytes(_CHUNK_BYTES)):
            pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(filler)


def empty(pid: int, run: Callable[[list[str]], object]) -> None:
    """Undoes it."""
    run(_remount(pid, "size=50%"))  # the kernel's own default
    with contextlib.suppress(OSError):
        os.unlink(f"/proc/{pid}/root{_DISK}/{_FILLER}")


def _remount(pid: int, options: str) -> list[str]:
    return ["nsenter", f"--target={pid}", "--mount", "--", "mount", "-o", f"remount,{options}", _DISK]
