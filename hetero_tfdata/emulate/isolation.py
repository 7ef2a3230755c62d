"""How the hosts of a run are kept apart: what a kind of isolation decides, and what can be done to a host that runs."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path

from hetero_tfdata.emulate.files import RunFolder
from hetero_tfdata.emulate.hosts import Host
from hetero_tfdata.emulate.job import Job
from hetero_tfdata.emulate.limits import Limits
from hetero_tfdata.emulate.task import HostTask
from hetero_tfdata.emulate.usage import ProcessTable, Usage
from hetero_tfdata.emulate.view import HostView
from hetero_tfdata.errors import ConfigurationError

__all__ = ["Isolation", "RunningHost", "Site", "start_process"]


class RunningHost(ABC):
    """A host that was started; every method may be called at any time, also when it has ended.

    Attributes:
        host: who it is.
        process: its process that this program started.
        namespace: the name of its network namespace, or None.
        limits: what it may use of the machine.
    """

    namespace: str | None = None
    limits = Limits()

    def __init__(self, host: Host, process: subprocess.Popen[bytes]) -> None:
        self.host, self.process = host, process

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """Its first process as seen from here; None as long as there is none."""

    @abstractmethod
    def poll(self) -> int | None:
        """The exit code once it has ended and nothing of it is left, else None; 128 + n where signal n ended it."""

    def terminate(self) -> None:
        """Asks it to end, as SageMaker asks a container."""
        self.process.terminate()

    @abstractmethod
    def kill(self) -> None:
        """Power off: every process ends at once, also of a frozen host."""

    @abstractmethod
    def freeze(self) -> None:
        """Stops every process until `restore`, and tells nobody."""

    def cut(self) -> None:
        """Takes its link down until `restore`."""
        raise ConfigurationError(f"{self.host.name} has no link of its own under process isolation; use --isolation namespace")

    def slow(self, factor: float, *, cpus: bool = True, link: bool = True) -> None:
        """Leaves it that part of its CPUs, its link or both until `restore`: 0.1 is a tenth."""
        raise ConfigurationError(f"{self.host.name} has no limits under process isolation; use --isolation namespace")

    def fill_disk(self) -> None:
        """Leaves no room on its disk until `restore`; only of a host that was started with `HostTask.own_disk`."""
        raise ConfigurationError(f"{self.host.name} has no disk of its own under process isolation; use --isolation namespace")

    @abstractmethod
    def restore(self) -> None:
        """Undoes `freeze`, `cut`, `slow` and `fill_disk`."""

    @abstractmethod
    def usage(self, table: ProcessTable) -> Usage | None:
        """What it has used so far; None where that can't be told any more. `table`: the processes of this moment."""


class Site(ABC):
    """This machine, prepared for the hosts of one run."""

    def notes(self) -> list[str]:
        """What the run's first lines should say of it."""
        return []

    @abstractmethod
    def view(self, host: Host) -> HostView:
        """What the host's processes see."""

    @abstractmethod
    def start(self, host: Host, task: HostTask, environment: dict[str, str]) -> RunningHost:
        """Starts the host, in this thread, with whose life the host's is bound up."""


class Isolation(ABC):
    """One kind of isolation; `hosts_are` is how a run announces its hosts."""

    hosts_are: str

    @abstractmethod
    def place(self, job: Job, seed: int | None) -> tuple[Host, ...]:
        """The hosts with their addresses; nothing is made yet. Raises HeteroTFDataError where the job can't have them."""

    @abstractmethod
    def prepared(self, job: Job, hosts: tuple[Host, ...], folder: RunFolder) -> AbstractContextManager[Site]:
        """Makes what the hosts need on this machine; it goes with the context, when they have ended."""


def start_process(
    command: list[str], *, folder: Path, log: Path, environment: dict[str, str], keep: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    """A host's process, in a session of its own, started in the folder; `keep`: file descriptors that it gets."""
    with open(log, "ab") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=keep,
        )
