"""What the servers of a running emulation hold: memory, file descriptors, temporary files. Read from outside, by process."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Sample", "sampling"]

_EVERY_S = 5.0
_KINDS = ("dispatcher", "worker")


@dataclass(frozen=True)
class Sample:
    """One server at one moment.

    Attributes:
        time_s: seconds since the sampling began.
        host: its host.
        kind: "dispatcher" or "worker".
        pid: of its process.
        rss_mib: resident memory.
        descriptors: open ones.
        temporary_mib: of all files in the host's /tmp: the dispatcher's journal, what is left of dead servers.
        temporary_files: how many there are.
    """

    time_s: float
    host: str
    kind: str
    pid: int
    rss_mib: float
    descriptors: int
    temporary_mib: float
    temporary_files: int


@contextlib.contextmanager
def sampling(state: Path) -> Iterator[list[Sample]]:
    """Samples of all servers of the emulation whose state file that is, every 5 s until the block ends."""
    samples: list[Sample] = []
    ended = threading.Event()
    began = time.monotonic()

    def run() -> None:
        while not ended.wait(_EVERY_S):
            with contextlib.suppress(OSError, ValueError, KeyError):
                for host in json.loads(state.read_text())["hosts"]:
                    if host["exit_code"] is None and host["pid"]:
                        samples.extend(_of(host["name"], host["pid"], time.monotonic() - began))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join(_EVERY_S)


def _of(host: str, pid: int, time_s: float) -> list[Sample]:
    found = []
    with contextlib.suppress(psutil.Error, OSError):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error, OSError):
                kind = next((kind for kind in _KINDS if kind in process.cmdline()[1:]), None)
                if kind is not None:
                    size, count = _temporary(process.pid)
                    memory = process.memory_info().rss / 2**20
                    found.append(Sample(time_s, host, kind, process.pid, memory, process.num_fds(), size, count))
    return found


def _temporary(pid: int) -> tuple[float, int]:
    size = count = 0
    for path in Path(f"/proc/{pid}/root/tmp").rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink():
                size += path.stat().st_size
                count += 1
    return size / 2**20, count
