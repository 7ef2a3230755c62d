"""Hosts with namespaces of their own: network, host name, /opt/ml, process ids, CPU quota and link rate.

Linux, as root or in a user namespace. What runs there runs as on SageMaker: fixed ports, names algo-N, /opt/ml itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from hetero_tfdata.emulate import disk, processes
from hetero_tfdata.emulate.cgroups import ControlGroup, Hierarchies
from hetero_tfdata.emulate.files import RunFolder
from hetero_tfdata.emulate.gpus import make_folder
from hetero_tfdata.emulate.hosts import Host, assigned, master
from hetero_tfdata.emulate.image import Image
from hetero_tfdata.emulate.isolation import Isolation, RunningHost, Site, start_process
from hetero_tfdata.emulate.job import Job
from hetero_tfdata.emulate.limits import MIN_CPUS, Limits
from hetero_tfdata.emulate.network import INTERFACE, Network, address
from hetero_tfdata.emulate.privileges import Privileges
from hetero_tfdata.emulate.registry import Run
from hetero_tfdata.emulate.space import Folder, Space, needed_below
from hetero_tfdata.emulate.task import HostTask
from hetero_tfdata.emulate.usage import ProcessTable, Usage, link_bytes
from hetero_tfdata.emulate.view import HostView
from hetero_tfdata.errors import ConfigurationError

__all__ = ["NamespaceIsolation"]

_BASE_DIR = Path("/opt/ml")
# Where hosts of a distribution meet, on each of them; and commands that the hosts have of their own.
_SOCKETS = "/run/hetero-tfdata"
_HOSTS_FILE = "/etc/hosts"
# Folders that a host has of its own, elsewhere.
_NOT_INHERITED = {"TMPDIR", "XDG_RUNTIME_DIR"}
# `slow` without limits: a factor needs something to be a part of. A c5.18xlarge's link is 25.
_UNLIMITED_GBPS = 25.0


class NamespaceIsolation(Isolation):
    """Each host has namespaces of its own; the limits follow from its instance type and the scale."""

    hosts_are = "processes in namespaces of their own"

    def __init__(
        self,
        scale: float = 0.0,
        memory_gib: float | None = None,
        link_scale: float | None = None,
        toolkit: bool = False,
    ) -> None:
        self._scale, self._memory_gib, self._link_scale, self._toolkit = scale, memory_gib, link_scale, toolkit

    def place(self, job: Job, seed: int | None) -> tuple[Host, ...]:
        """The hosts, each with an address of its own and all of its ports.

        Raises:
            ConfigurationError: the limits can't be set on this machine.
        """
        Hierarchies.find().require(self._limits(group.instance_type) for group in job.groups)
        if not _BASE_DIR.parent.is_dir():
            raise ConfigurationError(
                f"--isolation namespace mounts {_BASE_DIR} on each host: make the folder {_BASE_DIR.parent}"
            )
        groups = enumerate(assigned(job, seed), start=1)
        return tuple(Host(f"algo-{number}", group.name, group.instance_type, address(number)) for number, group in groups)

    @contextlib.contextmanager
    def prepared(self, job: Job, hosts: tuple[Host, ...], folder: RunFolder) -> Iterator[Site]:
        """Makes the network and the control groups; they go with the context, or when the next run starts."""
        limits = {host.name: self._limits(host.instance_type) for host in hosts}
        with Privileges.acquire() as privileges, Run.begin(privileges) as run:
            network = Network(run.privileges, run.name, {host.name: host.address for host in hosts})
            # A user's own control groups may be there and yet take no process from outside: only where they are asked for.
            use_groups = privileges.is_root or any(limit.cpus or limit.memory_bytes for limit in limits.values())
            hierarchies = Hierarchies.find() if use_groups else Hierarchies.none()
            run.will_make(namespaces=list(network.namespaces.values()), control_groups=hierarchies.folders(run.name, limits))
            network.build()
            try:
                groups = hierarchies.make(run.name, limits)
                for name, group in groups.items():
                    group.limit(limits[name])
            except OSError as error:
                raise ConfigurationError(f"the hosts' control groups can't be made: {error}") from None
            for name, limit in limits.items():
                if limit.link_gbps is not None:
                    network.limit(name, limit.link_gbps)
            image = Image.make(run.folder / "image", limits, job, privileges) if self._toolkit else None
            site = _Site(job, hosts, folder, run, network, groups, limits, privileges, image)
            try:
                yield site
            finally:
                site.remove_tmp()

    def _limits(self, instance_type: str) -> Limits:
        return Limits.of(instance_type, self._scale, self._memory_gib, self._link_scale)


class _Site(Site):
    """The network and the control groups of a run."""

    def __init__(
        self,
        job: Job,
        hosts: tuple[Host, ...],
        folder: RunFolder,
        run: Run,
        network: Network,
        groups: dict[str, ControlGroup],
        limits: dict[str, Limits],
        privileges: Privileges,
        image: Image | None,
    ) -> None:
        self._job, self._hosts, self._folder, self._run, self._network = job, hosts, folder, run, network
        self._groups, self._limits, self._privileges, self._image = groups, limits, privileges, image
        (run.folder / "sockets").mkdir()
        (run.folder / "hosts").write_text(_hosts_file(hosts))
        for gpus in {job.gpus_of(group.name) for group in job.groups}:
            make_folder(run.folder / "sockets" / f"gpus-{gpus}", gpus)

    def notes(self) -> list[str]:
        """The limits, the way into a host's network, and whose privileges it takes."""
        limits = {host.instance_type: str(self._limits[host.name]) for host in self._hosts}
        said = ["limits: " + "; ".join(f"{kind} {text}" for kind, text in limits.items())] if any(limits.values()) else []
        first = self._hosts[0].name
        enter = f"ip netns exec {self._network.namespaces[first]} COMMAND"
        if not self._privileges.is_root:
            said.append("not as root: in a user namespace of this user's")
            enter = " ".join([*self._privileges.prefix, enter])
        return [*said, f"network of {first}: {enter}"]

    def view(self, host: Host) -> HostView:
        """What SageMaker shows."""
        leader = master(self._job, self._hosts)
        return HostView(
            _BASE_DIR,
            log="/proc/1/fd/1",
            sockets=_SOCKETS,
            programs=f"{_SOCKETS}/gpus-{self._job.gpus_of(host.group)}",
            network_interface=INTERFACE,
            shared_channels=False,
            variables={"HOSTNAME": host.name} | (self._image.variables if self._image else {}),
            rank_variables={
                "HOROVOD_GLOO_RENDEZVOUS_ADDR": next((other.address for other in self._hosts if other.name == leader), ""),
                "HOROVOD_GLOO_IFACE": INTERFACE,
                "NCCL_SOCKET_IFNAME": INTERFACE,
                "HOROVOD_HOSTNAME": host.name,
            },
        )

    def start(self, host: Host, task: HostTask, environment: dict[str, str]) -> RunningHost:
        """Starts the process that makes the host's namespaces and its PID 1."""
        private = self._folder.path / host.name
        files = (str(private / "space.json"), str(private / "task.json"))
        self._tmp(host.name).mkdir()
        self._space(host).write(Path(files[0]))
        task.write(Path(files[1]))
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        command = [sys.executable, "-m", "hetero_tfdata.emulate.container", *files, str(writing)]
        try:
            process = start_process(
                [*self._privileges.prefix, *command],
                folder=private,
                log=self._folder.log(host.name),
                environment={name: value for name, value in environment.items() if name not in _NOT_INHERITED},
                keep=(writing,),
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        group = self._groups.get(host.name)
        return _Namespaced(host, process, reading, self._network, group, self._limits[host.name])

    def _space(self, host: Host) -> Space:
        group = self._groups.get(host.name)
        base_dir = self._folder.base_dir(host.name)
        home = [os.environ.get("HOME", ""), str(self._folder.packages)]
        opt = sorted(entry.path for entry in os.scandir(_BASE_DIR.parent) if entry.path != str(_BASE_DIR))
        channels = self._job.channels_of(host.group)
        mounted = {name: str(_BASE_DIR / "input" / "data" / name) for name in channels}
        kept = [(str(self._job.checkpoints), str(_BASE_DIR / "checkpoints"))] if self._job.checkpoints is not None else []
        return Space(
            host=host.name,
            emulator_pid=os.getpid(),
            network=self._network.path(host.name),
            control_groups=group.folders if group else (),
            folders=(
                Folder("/tmp", str(self._tmp(host.name)), 0o1777, needed_below("/tmp", home)),
                Folder("/dev/shm", mode=0o1777),
                Folder("/run", keep=needed_below("/run", home), make=(Path(_SOCKETS).name, "lock", "sshd")),
                Folder(str(_BASE_DIR.parent), keep=tuple(opt), make=(_BASE_DIR.name,)),
                *(self._image.folders(home) if self._image else ()),
            ),
            binds=(
                (str(base_dir), str(_BASE_DIR)),
                *((str(channels[name].folder), target) for name, target in mounted.items()),
                *kept,
                (str(self._run.folder / "hosts"), _HOSTS_FILE),
                (str(self._run.folder / "sockets"), _SOCKETS),
                *(group.binds if group else ()),
                *(self._image.binds(host.name) if self._image else ()),
            ),
            output_dir=str(base_dir / "output"),
            read_only=tuple(target for name, target in mounted.items() if channels[name].mode == "FastFile"),
            layers=self._image.layers if self._image else (),
        )

    def remove_tmp(self) -> None:
        """Removes what ended hosts left in their /tmp."""
        for host in self._hosts:
            shutil.rmtree(self._tmp(host.name), ignore_errors=True)

    def _tmp(self, host: str) -> Path:
        return self._folder.path / host / "tmp"


class _Namespaced(RunningHost):
    """A host, which owns its namespaces, its control groups and its link."""

    def __init__(
        self,
        host: Host,
        process: subprocess.Popen[bytes],
        report: int,
        network: Network,
        group: ControlGroup | None,
        limits: Limits,
    ) -> None:
        super().__init__(host, process)
        self.namespace = network.namespaces[host.name]
        self._network, self._group, self._limits = network, group, limits
        self.limits = limits
        self._report: int | None = report  # tells the process id of PID 1
        self._first: int | None = None
        self._exit_code: int | None = None
        self._slowed = self._filled = False

    @property
    def pid(self) -> int | None:
        """PID 1 of the host."""
        if self._report is not None:
            with contextlib.suppress(BlockingIOError):
                told = os.read(self._report, 100)
                self._first = int(told) if told else None
                os.close(self._report)
                self._report = None
        return self._first

    def poll(self) -> int | None:
        """The exit code once PID 1 and all others have ended."""
        first, code = self.pid, self.process.poll()
        if code is not None and self._exit_code is None:
            # Where the process that waits for PID 1 was killed alone, PID 1 follows, and has become our child.
            with contextlib.suppress(ChildProcessError):
                if first is not None and os.waitpid(first, os.WNOHANG) == (0, 0):
                    return None
            self._exit_code = processes.exit_code(code)
        return self._exit_code

    def kill(self) -> None:
        """Kills PID 1, and with it, by the kernel, all others."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid or self.process.pid, signal.SIGKILL)

    def usage(self, table: ProcessTable) -> Usage | None:
        """CPU time of its control group, or without one of its processes; bytes of its link."""
        if self.pid is None or (self._group is None and self.poll() is not None):
            return None
        cpu_s = self._group.cpu_s() if self._group is not None else table.cpu_s(self.process.pid)
        return Usage(cpu_s, *(link_bytes(self.pid, INTERFACE) or (None, None)))

    def freeze(self) -> None:
        """SIGSTOP for every process of the host: a control group's freezer exists in version 2, and for root, alone."""
        if self.pid is not None and self.poll() is None:
            processes.stop_tree(self.pid)

    def cut(self) -> None:
        """Takes its link down."""
        self._network.cut(self.host.name)

    def slow(self, factor: float, *, cpus: bool = True, link: bool = True) -> None:
        """Limits it to that part of what it has; its CPUs where this user has control groups."""
        if not 0 < factor <= 1:
            raise ConfigurationError(f"expected a factor of more than 0 and at most 1, got {factor:g}")
        cores, gbps = self._limits.cpus or os.cpu_count() or 1, self._limits.link_gbps or _UNLIMITED_GBPS
        slowed = Limits(max(MIN_CPUS, cores * factor), gbps * factor, self._limits.memory_bytes)
        if cpus and self._group is not None:
            self._group.limit(slowed)
        if link:
            self._network.limit(self.host.name, slowed.link_gbps)
        self._slowed = True

    def fill_disk(self) -> None:
        """Shrinks its disk to what it holds."""
        if self.pid is not None and self.poll() is None:
            disk.fill(self.pid, self._network.privileges.run)
            self._filled = True

    def restore(self) -> None:
        """Link up, its own limits, room on its disk, SIGCONT."""
        self._network.restore(self.host.name)
        if self._slowed:
            if self._group is not None:
                self._group.limit(self._limits)
            self._network.limit(self.host.name, self._limits.link_gbps)
            self._slowed = False
        if self.pid is not None and self.poll() is None:
            if self._filled:
                disk.empty(self.pid, self._network.privileges.run)
                self._filled = False
            processes.signal_tree(self.pid, signal.SIGCONT)


def _hosts_file(hosts: tuple[Host, ...]) -> str:
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    return "".join(f"{line}\n" for line in [*lines, *(f"{host.address} {host.name}" for host in hosts)])
