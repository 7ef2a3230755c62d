"""The folders in which a host's workers keep results, what they may hold, and what the workers tell of them.

One store for each supervisor. Its workers inherit descriptors of the folders under fixed numbers, so that one graph names them
on every host (`/proc/self/fd/901/...`). TensorFlow's operations do the rest, see caching/lookup.py. Memory of TensorFlow's own
(a MutableHashTable with a shared name) would begin anew with every pass that begins at distribute(), for each has a device of
its own on the worker (probed, TF 2.15.1).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["CACHE_FDS", "NEWS_FD", "CacheCounts", "CacheStore"]

CACHE_FDS = {"memory": 901, "disk": 902}
NEWS_FD = 903
_PREFIX = "hetero-tfdata-cache-"
_SHARE = {"memory": 0.4, "disk": 0.8}  # of what is free at the start, where the user gives no number
_MOST = 0.9
_LEAST_FREE = 0.03  # of the disk or of /dev/shm: others' programs have to live there too
_POLL_S = 0.5
_PAGE = 1 << 20


@dataclass
class CacheCounts:
    """What the workers of a host did.

    Attributes:
        hits: records that were found.
        misses: records that were computed.
        kept: of those, the ones that were kept.
        bytes_held: what they take, in blocks of 4 kB.
        computing_s: seconds that the misses took to compute, by the clock, summed over the workers' threads.
        reading_s: seconds that the hits took to read.
        full: whether something was not kept because the budget was used up.
    """

    hits: int = 0
    misses: int = 0
    kept: int = 0
    bytes_held: int = 0
    computing_s: float = 0.0
    reading_s: float = 0.0
    full: bool = False

    @property
    def saved_s(self) -> float:
        """What the hits would have taken to compute, less what they took to read."""
        return self.hits * self.computing_s / max(1, self.misses) - self.reading_s

    def __str__(self) -> str:
        return (
            f"{self.hits:,} hits, {self.misses:,} misses, {self.bytes_held / 1e6:,.1f} MB held{', full' if self.full else ''}; "
            f"saved about {self.saved_s:,.1f} s of {self.computing_s / max(1, self.misses) * 1e3:.2f} ms each"
        )


class CacheStore:
    """The folders of one host. Not thread-safe.

    Args:
        log: takes a line when a folder is full.
        folders: instead of /dev/shm and the folder for temporary files: where -> folder.
    """

    def __init__(self, log: Callable[[str], None], folders: dict[str, str] | None = None) -> None:
        self.counts = CacheCounts()
        self._log = log
        self._folders: dict[str, Path] = {}
        self._fds: dict[str, int] = {}
        self._parents = folders
        self._news: int | None = None
        self._read = 0
        self._freed = 0
        self._rest = b""
        self._polled = 0.0
        self._closed: set[str] = set()

    def open(self) -> CacheStore:
        """Makes the folders; `close` removes them."""
        self._news = os.memfd_create("cache-news")
        for where, parent in (self._parents or {"memory": "/dev/shm", "disk": _disk()}).items():
            with contextlib.suppress(OSError):  # without the folder nothing is kept there, and nothing else changes
                self._make(where, parent)
        return self

    @property
    def arguments(self) -> list[str]:
        """For a worker's command line; `descriptors` have to be passed on with them."""
        held = [f"{fd}:{CACHE_FDS[where]}" for where, fd in self._fds.items()]
        return ["--inherit", ",".join([*held, f"{self._news}:{NEWS_FD}"])]

    @property
    def descriptors(self) -> Sequence[int]:
        """What a worker inherits."""
        return [*self._fds.values(), *([] if self._news is None else [self._news])]

    @property
    def folders(self) -> dict[str, Path]:
        """Where -> folder."""
        return dict(self._folders)

    def poll(self) -> None:
        """Takes the workers' news; closes a folder whose disk is nearly full. To be called often; works twice a second."""
        now = time.monotonic()
        if now - self._polled >= _POLL_S:
            self._polled = now
            self._take()
            for where, folder in self._folders.items():
                with contextlib.suppress(OSError):
                    space = os.statvfs(folder)
                    if where not in self._closed and self.counts.kept and space.f_bavail < _LEAST_FREE * space.f_blocks:
                        self._closed.add(where)
                        self._allow(folder, 0, 0)
                        self._log(f"cache: {folder.parent} is nearly full: nothing more is kept there")

    def report(self) -> dict[str, object] | None:
        """For the host's report; None where nothing was looked up."""
        if not self.counts.hits + self.counts.misses:
            return None
        return {**asdict(self.counts), "saved_s": round(self.counts.saved_s, 3)}

    def close(self) -> None:
        """Takes the last news, says what was saved, removes the folders. May be called again."""
        if self._news is None:
            return
        self._take()
        if self.counts.hits + self.counts.misses:
            self._log(f"cache: {self.counts}")
        for folder in self._folders.values():
            shutil.rmtree(folder, ignore_errors=True)
        for fd in self.descriptors:
            os.close(fd)
        self._news = None
        self._fds.clear()

    def _make(self, where: str, parent: str) -> None:
        _remove_orphans(parent)
        space = os.statvfs(parent)
        free = space.f_bavail * space.f_frsize
        default, most = int(_SHARE[where] * free), int(_MOST * free)
        if where == "memory":
            memory = _free_memory()
            default, most = min(int(_SHARE[where] * memory), most), min(int(_MOST * memory), most)
        while where not in self._fds:
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            # held by this process and its workers; a folder without it is one that a killed job left
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if folder.is_dir():
                    self._folders[where], self._fds[where] = folder, fd
                    break
            os.close(fd)  # another process took it for one
        self._allow(self._folders[where], default, most)

    def _allow(self, folder: Path, default: int, most: int) -> None:
        for name, size_bytes in (("default", default), ("most", most)):
            new = folder / f"{name}.new"
            new.write_text(str(size_bytes))
            new.replace(folder / name)

    def _take(self) -> None:
        if self._news is None:
            return
        size = os.fstat(self._news).st_size
        data = self._rest
        while self._read < size:
            part = os.pread(self._news, min(_PAGE, size - self._read), self._read)
            self._read += len(part)
            data += part
            *lines, data = data.split(b"\n")
            for line in lines:
                self._count(line.split())
        self._rest = data

    def _count(self, words: list[bytes]) -> None:
        """ "h MICROSECONDS" or "m MICROSECONDS KEPT_BYTES", of which 0: no room, -1: not kept for another reason."""
        counts = self.counts
        if words[:1] == [b"h"]:
            counts.hits += 1
            counts.reading_s += int(words[1]) / 1e6
        elif words[:1] == [b"m"]:
            counts.misses += 1
            counts.computing_s += int(words[1]) / 1e6
            kept = int(words[2])
            counts.kept += kept > 0
            counts.bytes_held += max(0, kept)
            if kept == 0 and not counts.full:
                counts.full = True
                self._log(
                    f"cache: the budget is used up: {counts.kept:,} records in {counts.bytes_held / 1e6:,.1f} MB are kept, "
                    "others are computed in each pass"
                )


def _remove_orphans(parent: str) -> None:
    """Folders of jobs that were killed: nobody holds their lock."""
    for folder in Path(parent).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(fd)


def _disk() -> str:
    """The folder for temporary files; /var/tmp where that one is memory."""
    folder = tempfile.gettempdir()
    return "/var/tmp" if "TMPDIR" not in os.environ and _is_memory(folder) and os.path.isdir("/var/tmp") else folder


def _is_memory(folder: str) -> bool:
    with contextlib.suppress(OSError), open("/proc/self/mountinfo") as file:
        here = os.stat(folder).st_dev
        device = f"{os.major(here)}:{os.minor(here)}"
        return any(line.split()[2] == device and " - tmpfs " in line for line in file)
    return False


def _free_memory() -> int:
    """Bytes that this host can still give to processes, within its cgroup's limit."""
    free = []
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo") as file:
        free += [int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:")]
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):
            free.append(max(0, int(Path(limit).read_text()) - int(Path(used).read_text())))
    return min(free, default=0)
