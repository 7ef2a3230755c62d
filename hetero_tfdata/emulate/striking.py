"""Makes the faults of a run happen when their time has come, and undoes those that last for a while."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Collection, Mapping, Sequence

from hetero_tfdata.emulate import processes
from hetero_tfdata.emulate.faults import Fault
from hetero_tfdata.emulate.isolation import RunningHost
from hetero_tfdata.emulate.processes import psutil
from hetero_tfdata.errors import HeteroTFDataError

__all__ = ["Striker"]

# Looking for a process reads every command line of a host.
_LOOK_INTERVAL_S = 0.5
_RANK = "OMPI_COMM_WORLD_RANK"


class Striker:
    """The faults of one run; `tell(kind, fault, text, host)` hears of each as it happens."""

    def __init__(self, faults: Sequence[Fault], tell: Callable[[str, Fault, str, str | None], None]) -> None:
        self._pending = list(faults)
        self._tell = tell
        self._lasting: list[tuple[float, Fault]] = []  # when it is over, what
        self._look_at: dict[Fault, float] = {}
        self._killed: set[psutil.Process] = set()  # a large process is to be seen for some time after its SIGKILL

    def act(self, elapsed_s: float, running: Mapping[str, RunningHost], ended: Collection[str]) -> None:
        """Does what is due, `elapsed_s` after the start of the first host."""
        for over_s, fault in list(self._lasting):
            if elapsed_s >= over_s:
                self._lasting.remove((over_s, fault))
                self._restore(fault, running, ended)
        for fault in list(self._pending):
            if fault.at_s > elapsed_s:
                break
            if elapsed_s >= self._look_at.get(fault, 0.0):
                self._try(fault, elapsed_s, running, ended)

    def end(self) -> None:
        """Says what did not happen."""
        for fault in self._pending:
            self._tell("missed", fault, f"{fault} did not happen: the run ended first", fault.host)

    def _try(self, fault: Fault, elapsed_s: float, running: Mapping[str, RunningHost], ended: Collection[str]) -> None:
        if fault.host in ended:
            self._pending.remove(fault)
            self._tell("missed", fault, f"{fault} does not happen: {fault.host} has ended", fault.host)
            return
        try:
            done = self._strike(fault, running, ended)
        except (HeteroTFDataError, OSError) as error:
            self._pending.remove(fault)
            self._tell("missed", fault, f"{fault} can't happen: {error}", fault.host)
            return
        if done is None:
            if fault not in self._look_at:
                self._tell("waiting", fault, f"{fault} waits for {_victim(fault)}", fault.host)
            self._look_at[fault] = elapsed_s + _LOOK_INTERVAL_S
            return
        self._pending.remove(fault)
        host, text = done
        lasting = "" if fault.duration_s is None else f" for {fault.duration_s:g} s"
        self._tell("fault", fault, f"{fault}: {text}{lasting}", host)
        if fault.lasts:
            self._lasting.append((math.inf if fault.duration_s is None else elapsed_s + fault.duration_s, fault))

    def _strike(self, fault: Fault, running: Mapping[str, RunningHost], ended: Collection[str]) -> tuple[str, str] | None:
        """(host, what was done to it); None while there is nothing to do it to."""
        if fault.kind in ("kill-worker", "kill-dispatcher", "kill-rank"):
            alive = [host for name, host in running.items() if name not in ended and fault.host in (None, name)]
            for one in alive:
                below = [process for process in _below(one) if process not in self._killed]
                kind = fault.kind.removeprefix("kill-")
                process = _rank(below, fault.rank) if fault.rank is not None else _server(below, kind)
                if process is not None and _killed(process):
                    self._killed.add(process)
                    return one.host.name, f"SIGKILL for process {process.pid} on {one.host.name} ({one.host.group})"
            return None
        host = running.get(fault.host or "")
        if host is None or host.pid is None:
            return None
        name = host.host.name
        if fault.kind == "kill-host":
            host.kill()
            return name, f"SIGKILL for every process of {name} ({host.host.group})"
        _do(host, fault)
        return name, _LASTING_TEXT[fault.kind].format(host=f"{name} ({host.host.group})", factor=fault.factor)

    def _restore(self, fault: Fault, running: Mapping[str, RunningHost], ended: Collection[str]) -> None:
        """Undoes all that lasts on the host, then does again what is not over."""
        if fault.host in ended or fault.host is None:
            return
        host = running[fault.host]
        try:
            host.restore()
            for _, other in self._lasting:
                if other.host == fault.host:
                    _do(host, other)
        except (HeteroTFDataError, OSError) as error:
            self._tell("missed", fault, f"{fault} can't be undone: {error}", fault.host)
            return
        self._tell("restored", fault, f"{fault} is over", fault.host)


_LASTING_TEXT = {
    "freeze": "SIGSTOP for every process of {host}",
    "cut": "the link of {host} is down",
    "slow": "CPUs and link of {host} at {factor:g} of what they were",
    "slow-cpu": "CPUs of {host} at {factor:g} of what they were",
    "slow-link": "link of {host} at {factor:g} of what it was",
    "disk-full": "no more room on the disk of {host}",
}


def _do(host: RunningHost, fault: Fault) -> None:
    if fault.kind == "freeze":
        host.freeze()
    elif fault.kind == "cut":
        host.cut()
    elif fault.kind == "disk-full":
        host.fill_disk()
    elif fault.factor is not None:
        host.slow(fault.factor, cpus=fault.kind != "slow-link", link=fault.kind != "slow-cpu")


def _victim(fault: Fault) -> str:
    if fault.rank is not None:
        return f"rank {fault.rank}"
    where = f" on {fault.host}" if fault.host else ""
    return f"a {fault.kind.removeprefix('kill-')}{where}" if fault.kind.startswith("kill-") else f"{fault.host}"


def _server(below: Sequence[psutil.Process], kind: str) -> psutil.Process | None:
    """The first process with the bare argument."""
    for process in below:
        try:
            if kind in process.cmdline()[1:]:
                return process
        except psutil.Error:
            continue
    return None


def _rank(below: Sequence[psutil.Process], number: int) -> psutil.Process | None:
    """The process that was started as this rank: the topmost that has its number in the environment."""
    having = {process.pid: process for process in below if _rank_of(process) == number}
    for process in having.values():
        try:
            if process.ppid() not in having:
                return process
        except psutil.Error:
            continue
    return None


def _rank_of(process: psutil.Process) -> int | None:
    try:
        text = process.environ().get(_RANK, "")
    except psutil.Error:
        return None
    return int(text) if text.isdigit() else None


def _below(host: RunningHost) -> list[psutil.Process]:
    return sorted(processes.descendants(host.process.pid), key=lambda process: process.pid)


def _killed(process: psutil.Process) -> bool:
    try:
        os.kill(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
