"""Who holds a port, for the error that says that it is taken. Read from /proc (proc_pid_net(5), proc_pid_fd(5)): psutil, which
can tell it too, does not come with every image."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

__all__ = ["owner_of_port"]

_LISTEN = "0A"
_MOST_CHARACTERS = 80


def owner_of_port(port: int) -> str:
    """ "process 77 (python3 server.py)", or "another program" where the process can't be seen: another user's or container's,
    or the port is held by no listening socket."""
    inodes = set(_inodes(port))
    for name in os.listdir("/proc") if inodes else ():
        if name.isdigit() and _holds(name, inodes):
            with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read().replace(b"\0", b" ").decode(errors="replace").split()
                command = " ".join(words)
                return f"process {name} ({command[:_MOST_CHARACTERS]}{'…' if len(command) > _MOST_CHARACTERS else ''})"
    return "another program"


def _inodes(port: int) -> Iterator[str]:
    """Of the listening sockets of this port, in this network namespace."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/self/net/{table}") as file:
            for line in file.readlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _holds(pid: str, inodes: set[str]) -> bool:
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                if os.readlink(f"/proc/{pid}/fd/{descriptor}").removeprefix("socket:[").removesuffix("]") in inodes:
                    return True
    return False
