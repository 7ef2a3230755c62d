"""Hosts as plain processes: any Linux machine, no privileges; one network, one file system, each host with its own ports."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from hetero_tfdata.emulate import processes
from hetero_tfdata.emulate.files import RunFolder
from hetero_tfdata.emulate.gpus import make_folder
from hetero_tfdata.emulate.hosts import Host, endpoints, place
from hetero_tfdata.emulate.isolation import Isolation, RunningHost, Site, start_process
from hetero_tfdata.emulate.job import Job
from hetero_tfdata.emulate.task import HostTask
from hetero_tfdata.emulate.usage import ProcessTable, Usage
from hetero_tfdata.emulate.view import HostView

__all__ = ["ProcessIsolation"]

_PROGRAMS = "programs"


class ProcessIsolation(Isolation):
    """Each host is a process tree, told from the others by its first port and the folder that is its /opt/ml."""

    hosts_are = "processes"

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def place(self, job: Job, seed: int | None) -> tuple[Host, ...]:
        """The hosts, each with a block of ports that is theirs until the run is over."""
        return place(job, seed, self._held)

    @contextlib.contextmanager
    def prepared(self, job: Job, hosts: tuple[Host, ...], folder: RunFolder) -> Iterator[Site]:
        """Makes folders: for the sockets of a distribution's hosts, and for each host's own commands."""
        for host in hosts:
            make_folder(folder.path / host.name / _PROGRAMS, job.gpus_of(host.group))
        with contextlib.ExitStack() as stack:
            for own in self._held:
                stack.enter_context(own)
            yield _Site(hosts, folder, stack.enter_context(_socket_folder()) if job.distribution else "")


class _Site(Site):
    def __init__(self, hosts: tuple[Host, ...], folder: RunFolder, sockets: str) -> None:
        self._hosts, self._folder, self._sockets = hosts, folder, sockets
        self._started: list[subprocess.Popen[bytes]] = []

    def view(self, host: Host) -> HostView:
        """The machine's own view, with the folder that stands for /opt/ml and everybody's ports."""
        base_dir = self._folder.base_dir(host.name)
        return HostView(
            base_dir,
            log=str(self._folder.log(host.name)),
            parent_pid=os.getpid(),
            sockets=self._sockets,
            programs=str(self._folder.path / host.name / _PROGRAMS),
            variables={
                "SAGEMAKER_BASE_DIR": str(base_dir),
                "HETERO_TFDATA_ADDRESSES": json.dumps(endpoints(self._hosts)),
            },
        )

    def start(self, host: Host, task: HostTask, environment: dict[str, str]) -> RunningHost:
        """Starts the host's first process."""
        private, log = self._folder.path / host.name, self._folder.log(host.name)
        task.write(private / "task.json")
        command = [sys.executable, "-m", "hetero_tfdata.emulate.host", str(private / "task.json")]
        process = start_process(command, folder=private, log=log, environment=environment)
        self._started.append(process)
        return _Processes(host, process, self._started, str(self._folder.base_dir(host.name)))


class _Processes(RunningHost):
    """A host's process tree."""

    def __init__(
        self, host: Host, process: subprocess.Popen[bytes], all_hosts: list[subprocess.Popen[bytes]], base_dir: str
    ) -> None:
        super().__init__(host, process)
        self._all_hosts, self._base_dir = all_hosts, base_dir
        self._exit_code: int | None = None
        self._last: Usage | None = None

    @property
    def pid(self) -> int:
        """Its first process."""
        return self.process.pid

    def usage(self, table: ProcessTable) -> Usage | None:
        """CPU time of the process tree; network and disk are everybody's."""
        return Usage(table.cpu_s(self.pid)) if self.process.returncode is None else self._last

    def poll(self) -> int | None:
        """The exit code once it has ended; what it left behind is killed."""
        if self.process.returncode is None and os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            self._last = Usage(ProcessTable().cpu_s(self.pid))  # of its children, too: gone with the line below
        code = self.process.poll()
        if code is not None and self._exit_code is None:
            self._sweep()
            self._exit_code = processes.exit_code(code)
        return self._exit_code

    def kill(self) -> None:
        """SIGKILL for every process."""
        if self.process.poll() is None:
            below = processes.descendants(self.pid)
            self.process.kill()
            processes.end(below, grace_s=0)

    def freeze(self) -> None:
        """SIGSTOP for every process."""
        if self.process.poll() is None:
            processes.stop_tree(self.pid)

    def restore(self) -> None:
        """SIGCONT for every process."""
        if self.process.poll() is None:
            processes.signal_tree(self.pid, signal.SIGCONT)

    def _sweep(self) -> None:
        """Kills what a host left behind that was killed itself: a container's processes don't survive its PID 1.

        Its orphans have become children of this process. They are told from the caller's own children by the session
        that the host leads, or by the host's folder in their environment where they lead one themselves.
        """
        hosts = {process.pid for process in self._all_hosts}
        seen: set[int] = set()

        def left_behind() -> list[Any]:
            children = [child for child in processes.children(os.getpid()) if child.pid not in hosts]
            roots = [child for child in children if self._owns(child)]
            found = [process for root in roots for process in [root, *processes.descendants(root.pid)]]
            seen.update(process.pid for process in found)
            processes.reap(seen)
            return found

        processes.kill_until_none(left_behind)

    def _owns(self, process: Any) -> bool:
        try:
            return os.getsid(process.pid) == self.pid or process.environ().get("SAGEMAKER_BASE_DIR") == self._base_dir
        except (OSError, processes.psutil.Error):
            return False


@contextlib.contextmanager
def _socket_folder() -> Iterator[str]:
    """A private folder with a short name: Unix socket addresses end at 107 bytes."""
    parent = tempfile.gettempdir() if len(tempfile.gettempdir()) < 60 else "/tmp"
    with tempfile.TemporaryDirectory(prefix="emulate-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield folder
