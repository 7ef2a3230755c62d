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

__all__ = [
    "adopting_orphans",
    "bind_to_parent",
    "children",
    "descendants",
    "die_with_parent",
    "end",
    "exit_code",
    "kill_until_none",
    "reap",
    "signal_tree",
    "stop_tree",
]

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37


def bind_to_parent(parent_pid: int, signum: int = signal.SIGTERM) -> None:
    """Has this process get a signal when its parent dies, kill -9 included."""
    die_with_parent(signum)
    if os.getppid() != parent_pid:
        raise SystemExit(1)  # it died before the line above


def die_with_parent(signum: int) -> None:
    """The same for a process that can't see its parent, and so must find out otherwise whether it still lives.

    The kernel ties this to the parent's *thread*: the thread that starts a process must outlive it.
    """
    _prctl(_PR_SET_PDEATHSIG, signum)


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


def signal_tree(pid: int, signum: int) -> None:
    """Sends a signal to a process and all below it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        _send([psutil.Process(pid), *descendants(pid)], signum)


def stop_tree(pid: int, deadline_s: float = 5.0) -> None:
    """SIGSTOP for a process and all below it, again and again: one may have forked before its signal came."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        try:
            running = [process for process in [psutil.Process(pid), *descendants(pid)] if _runs(process)]
        except psutil.NoSuchProcess:
            return
        if not running:
            return
        _send(running, signal.SIGSTOP)
        time.sleep(0.01)


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


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
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
