"""Process trees on Linux: who inherits orphans, who dies with whom, and ending what is left."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator

from hetero_tfdata.errors import ConfigurationError

try:
    import psutil
except ImportError:
    raise ConfigurationError("emulate needs psutil: pip install 'hetero-tfdata[emulate]'") from None

__all__ = ["adopting_orphans", "bind_to_parent", "children", "descendants", "end", "exit_code", "kill_until_none", "reap"]

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37


def bind_to_parent(parent_pid: int) -> None:
    """Has this process get SIGTERM when its parent dies, kill -9 included.

    The kernel ties this to the parent's *thread*: the thread that starts a process must outlive it.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:
        raise SystemExit(1)  # it died before the line above


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Inside, orphaned descendants become children of this process instead of init's, as under a container's PID 1."""
    before = ctypes.c_int()
    _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before))
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        _prctl(_PR_SET_CHILD_SUBREAPER, before.value)


def descendants(pid: int) -> list[psutil.Process]:
    """The living processes below a process."""
    try:
        return [process for process in psutil.Process(pid).children(recursive=True) if _lives(process)]
    except psutil.NoSuchProcess:
        return []


def children(pid: int) -> list[psutil.Process]:
    """The processes directly below a process, zombies included."""
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def end(processes: Iterable[psutil.Process], grace_s: float) -> None:
    """SIGTERM, and SIGKILL for what still lives after the grace time."""
    alive = list(processes)
    _send(alive, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while alive and time.monotonic() < deadline:
        time.sleep(0.02)
        alive = [process for process in alive if _lives(process)]
    _send(alive, signal.SIGKILL)


def kill_until_none(find: Callable[[], list[psutil.Process]], deadline_s: float = 10.0) -> None:
    """SIGKILL for all that `find` finds, again and again: a process may have forked before its signal came."""
    deadline = time.monotonic() + deadline_s
    while (found := find()) and time.monotonic() < deadline:
        _send(found, signal.SIGKILL)
        time.sleep(0.02)


def reap(pids: Iterable[int]) -> None:
    """Takes the exit status of those of the processes that are ended children, so that no zombie stays."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def exit_code(returncode: int) -> int:
    """subprocess's return code as a shell or container says it: 128 + n for a process that signal n ended."""
    return 128 - returncode if returncode < 0 else returncode


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _send(processes: Iterable[psutil.Process], signum: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signum)


def _prctl(option: int, argument: object) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
