"""Runs an emulated job: starts the hosts, shows and records what they do, ends them when asked, sums up."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import shutil
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from hetero_tfdata.emulate import processes, summary
from hetero_tfdata.emulate.console import Console
from hetero_tfdata.emulate.files import RunFolder, default_output, write_by_rename
from hetero_tfdata.emulate.host import STOP_GRACE_S
from hetero_tfdata.emulate.hosts import Host, master
from hetero_tfdata.emulate.isolation import Isolation, RunningHost, Site
from hetero_tfdata.emulate.job import Job
from hetero_tfdata.emulate.namespaces import NamespaceIsolation
from hetero_tfdata.emulate.process_isolation import ProcessIsolation
from hetero_tfdata.emulate.summary import TIMELINE, Observed, Result
from hetero_tfdata.emulate.task import HostTask
from hetero_tfdata.emulate.timeline import Recorder
from hetero_tfdata.emulate.usage import ProcessTable, Usage
from hetero_tfdata.emulate.variables import Variables, command_arguments, inherited
from hetero_tfdata.errors import ConfigurationError

__all__ = ["run"]

DEFAULT_TIMEOUT_S = 3600.0
_TICK_S = 0.1
_END_TICK_S = 0.02
# A host kills its processes itself when its grace is over; this is for a host that does not.
_KILL_AFTER_S = STOP_GRACE_S + 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(
    job: Job,
    *,
    output: Path | str | None = None,
    state: Path | str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    seed: int | None = None,
    isolation: str = "process",
    scale: float = 0.0,
    memory_gib: float | None = None,
    stream: TextIO | None = None,
) -> Result:
    """Runs the job to the end of every host.

    No host is ended because another one ended: only the time limit and SIGINT, SIGTERM or SIGHUP (caught when this is
    called in the main thread) end hosts, by SIGTERM and after 20 s by SIGKILL; a second signal kills at once.

    Args:
        job: what to run.
        output: folder for logs, each host's /opt/ml and summary.json; an earlier run's is replaced. Default: a fresh
            out/emulate/<timestamp>.
        state: a JSON file that always says how the hosts are; replaced by rename.
        timeout_s: time limit of the whole run.
        seed: repeats an assignment of hosts to groups.
        isolation: "process": plain processes; "namespace": each host has its own network, host name, address, /opt/ml and
            process ids, as root or where user namespaces are allowed.
        scale: of "namespace": each host gets its instance type's vCPUs and link divided by it; 0: no limits.
        memory_gib: of "namespace": the memory of each host; None: no limit.
        stream: where the hosts' output and the summary are shown; None: nowhere.

    Raises:
        ConfigurationError: what was given can't be right, or the machine can't do it; nothing was started.
        PortInUseError: no free ports for the hosts.
    """
    if not sys.platform.startswith("linux"):
        raise ConfigurationError(f"emulate needs Linux, this is {sys.platform}")
    if not (timeout_s > 0 and math.isfinite(timeout_s)):
        raise ConfigurationError(f"expected a time limit of more than 0 seconds, got {timeout_s}")
    state_file = Path(state).expanduser().absolute() if state is not None else None
    if state_file is not None and state_file.is_dir():
        raise ConfigurationError(f"state file {state_file} is a folder")
    if job.distribution and importlib.util.find_spec("horovod") is None:
        raise ConfigurationError(
            "a distribution's ranks are started by horovodrun, which is not installed: "
            "pip install 'hetero-tfdata[horovod]', or leave --distribution out"
        )
    apart = _isolation(isolation, scale, memory_gib)
    hosts = apart.place(job, seed)
    output = Path(output) if output is not None else default_output()
    with RunFolder.claim(output, job) as folder, _signals() as caught, processes.adopting_orphans():
        with contextlib.ExitStack() as stack:
            try:
                site = stack.enter_context(apart.prepared(job, hosts, folder))
                everyone = {host.name: Variables(job, hosts, host, site.view(host)) for host in hosts}
                for variables in everyone.values():
                    folder.lay_out(variables)
                run = _Run(job, hosts, folder, site, state_file, stream)
                run.write_state()
            except (OSError, shutil.Error) as error:
                folder.discard()
                raise ConfigurationError(f"the hosts' folders can't be made in {folder.path}: {error}") from None
            except BaseException:
                folder.discard()
                raise
            try:
                run.announce(seed, apart.hosts_are)
                for host in hosts:
                    if not caught:
                        run.start(host, everyone[host.name])
                ended_by = run.until_all_ended(time.monotonic() + timeout_s, caught)
            finally:
                run.end()
                run.recorder.close()
        result = summary.collect(folder, hosts, run.exit_codes, ended_by, run.observed())
        run.console.plain(summary.render(result))
        return result


class _Run:
    """The host processes of a run, their state file and console."""

    def __init__(
        self,
        job: Job,
        hosts: tuple[Host, ...],
        folder: RunFolder,
        site: Site,
        state_file: Path | None,
        stream: TextIO | None,
    ) -> None:
        self.job, self.hosts, self.folder, self.site, self.state_file = job, hosts, folder, site, state_file
        self.console = Console(stream, hosts, {host.name: folder.log(host.name) for host in hosts})
        self.running: dict[str, RunningHost] = {}
        self.exit_codes: dict[str, int] = {}
        self.recorder = Recorder(folder.path / TIMELINE)
        self._written: dict[str, Any] | None = None
        self._started_at, self._cpu_s = time.monotonic(), time.process_time()

    def announce(self, seed: int | None, hosts_are: str) -> None:
        """Says what is emulated."""
        groups = [f"{group.name} = {group.count} x {group.instance_type}" for group in self.job.groups]
        say = self.console.say
        say(f"{self.job.name}: {len(self.hosts)} hosts as {hosts_are} on this machine, no GPU is used")
        say("groups: " + ", ".join(groups) + (f" (seed {seed})" if seed is not None else " (assigned at random)"))
        if self.job.distribution:
            total = self.job.processes_per_host * sum(host.group == self.job.distribution for host in self.hosts)
            say(f"ranks: {total} in {self.job.distribution}, started by horovodrun on {master(self.job, self.hosts)}")
        for note in self.site.notes():
            say(note)
        say(f"output: {self.folder.path}")

    def start(self, host: Host, variables: Variables) -> None:
        """Starts a host, in this thread, with whose life the host's is bound up."""
        takes_ranks, view = host.group == self.job.distribution, variables.view
        task = HostTask(
            host=host.name,
            command=[sys.executable, self.job.entry_point, *command_arguments(self.job.hyperparameters)],
            code_dir=str(variables.code_dir),
            output_dir=str(view.base_dir / "output"),
            log=view.log,
            emulator_pid=view.parent_pid,
            rank_hosts=sorted(other.name for other in self.hosts if other.group == host.group) if takes_ranks else [],
            processes_per_host=self.job.processes_per_host,
            sockets=view.sockets,
            rank_variables=dict(view.rank_variables),
        )
        self.running[host.name] = self.site.start(host, task, _base_environment() | variables.environment())
        self.recorder.sample(host.name, Usage())
        self.recorder.note("started", "started", host.name)
        self.write_state()

    def until_all_ended(self, deadline: float, caught: list[int]) -> str | None:
        """Follows the hosts until none runs; what ended them, if not they themselves."""
        ended_by, kill_at = None, math.inf
        while self._follow():
            now = time.monotonic()
            if ended_by is None and (caught or now >= deadline):
                ended_by = signal.Signals(caught[0]).name if caught else "time limit"
                names = ", ".join(f"{running.host.name} ({running.host.group})" for running in self._alive())
                after = f" after {now - self._started_at:.0f} s" if not caught else ""
                self.console.say(f"{ended_by}{after}: ending the hosts that still run: {names}")
                for running in self._alive():
                    running.terminate()
                kill_at = now + _KILL_AFTER_S
            elif ended_by is not None and (now >= kill_at or len(caught) > 1):
                self._kill()
            time.sleep(_TICK_S)
        if ended_by is None and caught:
            ended_by = signal.Signals(caught[0]).name
        for host in self.hosts:
            self.exit_codes.setdefault(host.name, processes.exit_code(-signal.SIGTERM))  # never started
        return ended_by

    def end(self) -> None:
        """Leaves no process, whatever happened before."""
        self._kill()
        while self._follow():
            time.sleep(_END_TICK_S)

    def write_state(self) -> None:
        """Brings the state file up to date."""
        if self.state_file is None:
            return
        entries = []
        for host in self.hosts:
            running = self.running.get(host.name)
            entries.append(
                {
                    "name": host.name,
                    "group": host.group,
                    "instance_type": host.instance_type,
                    "address": host.address,
                    "pid": running.pid if running else None,
                    "namespace": running.namespace if running else None,
                    "exit_code": self.exit_codes.get(host.name),
                    "failure": self.folder.failure(host.name),
                }
            )
        if self._written != (state := {"hosts": entries}):
            write_by_rename(self.state_file, state)
            self._written = state

    def _follow(self) -> bool:
        """Shows new output, takes note of hosts that ended; whether any still runs."""
        self._record()
        for running in self._alive():
            host, code = running.host, running.poll()
            if code is not None:
                self.exit_codes[host.name] = code
            self.console.follow(host.name, ended=code is not None)
            if code is not None:
                took = time.monotonic() - self._started_at
                self.recorder.sample(host.name, running.usage(ProcessTable()))
                self.recorder.note("exited", f"exited with {code}", host.name)
                self.console.say(f"{host.name} ({host.group}) exited with {code} after {took:.0f} s")
        self.write_state()
        return bool(self._alive())

    def observed(self) -> Observed:
        """What was recorded, and what the emulator itself used."""
        limits = {name: running.limits for name, running in self.running.items()}
        return Observed(self.recorder.timeline, tuple(self.recorder.events), limits, time.process_time() - self._cpu_s)

    def _record(self) -> None:
        if self.recorder.is_due:
            table = ProcessTable()
            for running in self._alive():
                self.recorder.sample(running.host.name, running.usage(table))

    def _alive(self) -> list[RunningHost]:
        return [running for name, running in self.running.items() if name not in self.exit_codes]

    def _kill(self) -> None:
        for running in self._alive():
            running.kill()


def _isolation(kind: str, scale: float, memory_gib: float | None) -> Isolation:
    if kind == "namespace":
        return NamespaceIsolation(scale, memory_gib)
    if kind != "process":
        raise ConfigurationError(f"isolation {kind!r} is not offered, expected process or namespace")
    if scale or memory_gib is not None:
        raise ConfigurationError("limits (--scale, --memory-gib) need --isolation namespace: plain processes have none")
    return ProcessIsolation()


def _base_environment() -> dict[str, str]:
    """What every host inherits: the caller's variables, this package importable, TensorFlow less talkative."""
    environment = inherited(os.environ)
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    path = [os.path.abspath(entry) for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    package = str(Path(__file__).resolve().parents[2])
    if package not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *path):
        path.append(package)
    return environment | {"PYTHONPATH": os.pathsep.join(path)}


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that came, in order; they do nothing else inside."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.signal(number, lambda number, _: caught.append(number)) for number in _SIGNALS}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
