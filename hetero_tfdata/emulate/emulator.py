"""Runs an emulated job: starts the hosts, shows and records what they do, ends them when asked, sums up."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from hetero_tfdata.emulate import assignment, chart, processes, requirements, summary
from hetero_tfdata.emulate.console import Console
from hetero_tfdata.emulate.course import Course
from hetero_tfdata.emulate.faults import Fault, located
from hetero_tfdata.emulate.files import RunFolder, default_output
from hetero_tfdata.emulate.hosts import Host, master
from hetero_tfdata.emulate.isolation import Isolation, RunningHost, Site
from hetero_tfdata.emulate.job import Job
from hetero_tfdata.emulate.namespaces import NamespaceIsolation
from hetero_tfdata.emulate.process_isolation import ProcessIsolation
from hetero_tfdata.emulate.signals import caught_signals
from hetero_tfdata.emulate.state import StateFile
from hetero_tfdata.emulate.striking import Striker
from hetero_tfdata.emulate.summary import CHART, TIMELINE, Observed, Result
from hetero_tfdata.emulate.timeline import Recorder
from hetero_tfdata.emulate.toolkit import Toolkit
from hetero_tfdata.emulate.usage import ProcessTable, Usage
from hetero_tfdata.emulate.variables import Variables
from hetero_tfdata.errors import ConfigurationError

__all__ = ["run"]

DEFAULT_TIMEOUT_S = 3600.0
_TICK_S = 0.1
_END_TICK_S = 0.02
# A host kills its processes itself when its grace is over; this is for a host that does not.
_KILL_LATER_S = 10.0


def run(
    job: Job,
    *,
    output: Path | str | None = None,
    state: Path | str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    seed: int | None = None,
    isolation: str = "process",
    scale: float = 0.0,
    link_scale: float | None = None,
    memory_gib: float | None = None,
    toolkit: bool = False,
    stream: TextIO | None = None,
    faults: Sequence[Fault | str] = (),
    stop_after_s: float | None = None,
    max_runtime_s: float | None = None,
    stop_grace_s: float | None = None,
    stagger_s: float = 0.0,
) -> Result:
    """Runs the job to the end of every host.

    No host is ended because another one ended: only a fault, a stop, the time limit and SIGINT, SIGTERM or SIGHUP (caught
    when this is called in the main thread) end hosts, by SIGTERM and after the grace time by SIGKILL; a second signal kills
    at once.

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
        link_scale: of "namespace": what links are divided by instead.
        memory_gib: of "namespace": the memory of each host; None: no limit.
        toolkit: of "namespace": each host runs the command `train` of the installed sagemaker-training, with mpirun and sshd
            on the hosts of the distribution, instead of our stand-in for it.
        stream: where the hosts' output and the summary are shown; None: nowhere.
        faults: what happens to hosts and when, such as "20s:kill-worker:algo-2"; faults.py has them all.
        stop_after_s: stop the job after so long, as StopTrainingJob does: SIGTERM, and SIGKILL after the grace time.
        max_runtime_s: the job's MaxRuntimeInSeconds: it is stopped likewise.
        stop_grace_s: the grace time; None: 120 s, as SageMaker's, where one of those two is given, else 20 s.
        stagger_s: hosts come up so many seconds apart, in random order.

    Raises:
        ConfigurationError: what was given can't be right, or the machine can't do it; nothing was started.
        PortInUseError: no free ports for the hosts.
    """
    if not sys.platform.startswith("linux"):
        raise ConfigurationError(f"emulate needs Linux, this is {sys.platform}")
    state_file = StateFile(state)
    installed = Toolkit.find(job) if toolkit else None
    if job.distribution and installed is None and importlib.util.find_spec("horovod") is None:
        raise ConfigurationError(
            "a distribution's ranks are started by horovodrun, which is not installed: "
            "pip install 'hetero-tfdata[horovod]', leave --distribution out, or use mpirun by --toolkit"
        )
    apart = _isolation(isolation, scale, memory_gib, link_scale, toolkit)
    course = Course(timeout_s, stop_after_s, max_runtime_s, stop_grace_s, stagger_s)
    hosts = apart.place(job, seed)
    course = replace(course, faults=located(faults, job, hosts, isolation=isolation))
    output = Path(output) if output is not None else default_output()
    with RunFolder.claim(output, job) as folder, caught_signals() as caught, processes.adopting_orphans():
        with contextlib.ExitStack() as stack:
            try:
                site = stack.enter_context(apart.prepared(job, hosts, folder))
                everyone = {host.name: Variables(job, hosts, host, site.view(host)) for host in hosts}
                for variables in everyone.values():
                    folder.lay_out(variables)
                run = _Run(job, hosts, folder, site, course, state_file, stream, installed)
                run.write_state()
            except (OSError, shutil.Error) as error:
                folder.discard()
                raise ConfigurationError(f"the hosts' folders can't be made in {folder.path}: {error}") from None
            except BaseException:
                folder.discard()
                raise
            try:
                run.announce(seed, apart.hosts_are)
                run.install_requirements(caught)
                ended_by = run.until_all_ended(everyone, course.starts(hosts, seed), caught)
            finally:
                run.end()
                run.recorder.close()
        result = summary.collect(folder, hosts, run.exit_codes, ended_by, run.observed())
        run.console.plain(summary.render(result))
        if lacking := chart.write(folder.path / CHART, result):
            run.console.plain(lacking)
        return result


class _Run:
    """The host processes of a run, their state file and console."""

    def __init__(
        self,
        job: Job,
        hosts: tuple[Host, ...],
        folder: RunFolder,
        site: Site,
        course: Course,
        state: StateFile,
        stream: TextIO | None,
        toolkit: Toolkit | None,
    ) -> None:
        self.job, self.hosts, self.folder, self.site, self.state = job, hosts, folder, site, state
        self.course, self.toolkit = course, toolkit
        self.console = Console(stream, hosts, {host.name: folder.log(host.name) for host in hosts})
        self.running: dict[str, RunningHost] = {}
        self.exit_codes: dict[str, int] = {}
        self.recorder = Recorder(folder.path / TIMELINE)
        self._started_at, self._cpu_s = time.monotonic(), time.process_time()

    def announce(self, seed: int | None, hosts_are: str) -> None:
        """Says what is emulated."""
        groups = [f"{group.name} = {group.count} x {group.instance_type}" for group in self.job.groups]
        say = self.console.say
        say(f"{self.job.name}: {len(self.hosts)} hosts as {hosts_are} on this machine, no GPU is used")
        say("groups: " + ", ".join(groups) + (f" (seed {seed})" if seed is not None else " (assigned at random)"))
        if self.job.distribution:
            total = self.job.processes_per_host * sum(host.group == self.job.distribution for host in self.hosts)
            starter = "mpirun" if self.toolkit else "horovodrun"
            say(f"ranks: {total} in {self.job.distribution}, started by {starter} on {master(self.job, self.hosts)}")
        for note in [*(self.toolkit.notes() if self.toolkit else ()), *self.site.notes()]:
            say(note)
        say(f"output: {self.folder.path}")

    def start(self, host: Host, variables: Variables) -> None:
        """Starts a host, in this thread, with whose life the host's is bound up."""
        filled = any(fault.kind == "disk-full" and fault.host == host.name for fault in self.course.faults)
        task = replace(assignment.task(variables, self.toolkit), stop_grace_s=self.course.grace_s, own_disk=filled)
        environment = assignment.environment(variables, self.toolkit, self.folder.packages)
        self.running[host.name] = self.site.start(host, task, environment)
        self.recorder.sample(host.name, Usage())
        self.recorder.note("started", "started", host.name)
        self.write_state()

    def install_requirements(self, caught: list[int]) -> None:
        """Installs what the job's requirements.txt names, if it has one; Ctrl-C and the time limit end it."""
        if not Path(self.job.source_dir, requirements.FILE).exists():
            return
        self.console.say(f"installing {requirements.FILE} for this run")
        self._started_at = time.monotonic()
        code_dir, log = self.folder.base_dir(self.hosts[0].name) / "code", self.folder.path / "requirements.log"

        def is_over() -> bool:
            return bool(caught) or self._elapsed_s >= self.course.timeout_s

        requirements.install(self.folder.packages, code_dir, log, is_over)
        if not caught and is_over():
            raise ConfigurationError(f"{requirements.FILE} was not installed in {self.course.timeout_s:g} s; read {log}")

    def until_all_ended(
        self, everyone: dict[str, Variables], starts: list[tuple[float, Host]], caught: list[int]
    ) -> str | None:
        """Starts the hosts and follows them until none runs; what ended them, if not they themselves."""
        ended_by, kill_at = None, math.inf
        striker = Striker(self.course.faults, self._happened)
        self._started_at = time.monotonic()
        while True:
            while starts and not caught and self._elapsed_s >= starts[0][0]:
                _, host = starts.pop(0)
                self.start(host, everyone[host.name])
            if not self._follow() and not (starts and not caught):
                break
            now = time.monotonic()
            if ended_by is None and (
                due := signal.Signals(caught[0]).name if caught else self.course.ended_by(self._elapsed_s)
            ):
                ended_by = due
                starts.clear()
                self._terminate(f"{ended_by} after {self._elapsed_s:.0f} s" if not caught else ended_by)
                kill_at = now + self.course.grace_s + _KILL_LATER_S
            elif ended_by is not None and (now >= kill_at or len(caught) > 1):
                self._kill()
            striker.act(self._elapsed_s, self.running, self.exit_codes)
            time.sleep(_TICK_S)
        striker.end()
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
        self.state.write(self.hosts, self.running, self.exit_codes, self.folder)

    def _follow(self) -> bool:
        """Shows new output, takes note of hosts that ended; whether any still runs."""
        self._record()
        for running in self._alive():
            host, code = running.host, running.poll()
            if code is not None:
                self.exit_codes[host.name] = code
            self.console.follow(host.name, ended=code is not None)
            if code is not None:
                self.recorder.sample(host.name, running.usage(ProcessTable()))
                self.recorder.note("exited", f"exited with {code}", host.name)
                self.console.say(f"{host.name} ({host.group}) exited with {code} after {self._elapsed_s:.0f} s")
        self.write_state()
        return bool(self._alive())

    def observed(self) -> Observed:
        """What was recorded, and what the emulator itself used."""
        limits = {name: running.limits for name, running in self.running.items()}
        return Observed(self.recorder.timeline, tuple(self.recorder.events), limits, time.process_time() - self._cpu_s)

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_at

    def _happened(self, kind: str, fault: Fault, text: str, host: str | None) -> None:
        self.recorder.note(kind, text, host, str(fault))
        self.console.say(f"fault: {text}")

    def _terminate(self, why: str) -> None:
        names = ", ".join(f"{running.host.name} ({running.host.group})" for running in self._alive())
        self.console.say(f"{why}: ending the hosts that still run: {names}")
        self.recorder.note("stopped", why)
        for running in self._alive():
            running.terminate()

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


def _isolation(kind: str, scale: float, memory_gib: float | None, link_scale: float | None, toolkit: bool) -> Isolation:
    if kind == "namespace":
        return NamespaceIsolation(scale, memory_gib, link_scale, toolkit)
    if kind == "process" and toolkit:
        raise ConfigurationError("--toolkit needs --isolation namespace: sagemaker-training reads /opt/ml, sshd uses port 22")
    if kind != "process":
        raise ConfigurationError(f"isolation {kind!r} is not offered, expected process or namespace")
    if scale or memory_gib is not None or link_scale is not None:
        raise ConfigurationError(
            "limits (--scale, --link-scale, --memory-gib) need --isolation namespace: plain processes have none"
        )
    return ProcessIsolation()
