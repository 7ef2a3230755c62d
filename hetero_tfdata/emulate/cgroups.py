"""Control groups, versions 1 and 2: what a host may use of CPUs and memory, and what it has used.

Found through /proc/self/mountinfo and /proc/self/cgroup, whose formats are proc(5)'s and cgroups(7)'s; the files are those
of the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hetero_tfdata.emulate.limits import Limits
from hetero_tfdata.errors import ConfigurationError

__all__ = ["ControlGroup", "Hierarchies", "Hierarchy", "remove"]

# The shorter, the smoother: within a period of 100 ms, the kernel's default, a host at half a core runs for 50 ms at full
# speed and then stands still for 50. FACTS: 20 ms or less.
_PERIOD_US = 20_000
_MIN_QUOTA_US = 1_000  # kernel/sched/core.c: min_cfs_quota_period
_REMOVE_TIMEOUT_S = 10.0
_WEIGHT_V1, _WEIGHT_V2, _MAX_WEIGHT_V2 = 1024, 100, 10_000


@dataclass(frozen=True)
class Hierarchy:
    """One mounted hierarchy, and the group in it below which this process may make others.

    Attributes:
        controllers: of version 1, such as {"cpu", "cpuacct"}; of version 2 those that the group's children get.
        mount_point: where it is mounted.
        group: this process's own group, or one above it.
    """

    controllers: frozenset[str]
    mount_point: Path
    group: Path


class ControlGroup(ABC):
    """The groups of one host."""

    def __init__(self, folders: dict[str, tuple[Hierarchy, Path]]) -> None:
        self._folders = folders

    @property
    def folders(self) -> tuple[str, ...]:
        """One folder for each hierarchy; whoever writes 0 to their cgroup.procs belongs to the host."""
        return tuple(dict.fromkeys(str(folder) for _, folder in self._folders.values()))

    @property
    def binds(self) -> tuple[tuple[str, str], ...]:
        """(folder, where the host has to see it): a container sees its own groups as the topmost."""
        return tuple(dict.fromkeys((str(folder), str(tree.mount_point)) for tree, folder in self._folders.values()))

    @property
    def controllers(self) -> frozenset[str]:
        """What can be limited."""
        return frozenset(self._folders)

    def limit(self, limits: Limits) -> None:
        """Sets CPUs and memory; None lifts a limit."""
        if "cpu" in self._folders:
            self._limit_cpus(self._folders["cpu"][1], limits.cpus)
        if "memory" in self._folders and limits.memory_bytes is not None:
            self._limit_memory(self._folders["memory"][1], limits.memory_bytes)

    @abstractmethod
    def cpu_s(self) -> float:
        """CPU seconds that the host's processes have used, ended ones included."""

    @abstractmethod
    def _limit_cpus(self, folder: Path, cpus: float | None) -> None: ...

    @abstractmethod
    def _limit_memory(self, folder: Path, memory_bytes: int) -> None: ...


class _Version1(ControlGroup):
    def cpu_s(self) -> float:
        return int((self._folders["cpuacct"][1] / "cpuacct.usage").read_text()) / 1e9

    def _limit_cpus(self, folder: Path, cpus: float | None) -> None:
        (folder / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (folder / "cpu.cfs_quota_us").write_text("-1" if cpus is None else str(_quota_us(cpus)))

    def _limit_memory(self, folder: Path, memory_bytes: int) -> None:
        (folder / "memory.limit_in_bytes").write_text(str(memory_bytes))
        if (folder / "memory.memsw.limit_in_bytes").exists():  # memory and swap together, where swap is counted
            (folder / "memory.memsw.limit_in_bytes").write_text(str(memory_bytes))


class _Version2(ControlGroup):
    def cpu_s(self) -> float:
        lines = (self._folders["cpu"][1] / "cpu.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("usage_usec ")) / 1e6

    def _limit_cpus(self, folder: Path, cpus: float | None) -> None:
        (folder / "cpu.max").write_text(f"{'max' if cpus is None else _quota_us(cpus)} {_PERIOD_US}")

    def _limit_memory(self, folder: Path, memory_bytes: int) -> None:
        (folder / "memory.max").write_text(str(memory_bytes))
        if (folder / "memory.swap.max").exists():
            (folder / "memory.swap.max").write_text("0")


class Hierarchies:
    """Where this process may make control groups: "cpu", "cpuacct" and "memory", as far as they can be had."""

    def __init__(self, found: dict[str, Hierarchy], version: int, missing: str = "") -> None:
        self._found, self.version = found, version
        self.missing = missing  # why a controller is not there

    @classmethod
    def none(cls) -> Hierarchies:
        """For hosts without limits that this process could not put into groups."""
        return cls({}, 0, "none are used")

    @classmethod
    def find(cls, proc: Path = Path("/proc/self")) -> Hierarchies:
        """Reads `proc`'s mountinfo and cgroup; version 1 where it has the cpu controller."""
        mounts = [_Mount.parse(line) for line in (proc / "mountinfo").read_text().splitlines()]
        own = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
        first = _version_1(mounts, {names: path for _, names, path in own if names})
        if "cpu" in first:
            usable = {name: tree for name, tree in first.items() if os.access(tree.group, os.W_OK)}
            lacking = [str(tree.group) for name, tree in first.items() if name not in usable]
            return cls(usable, 1, f"{lacking[0]} can't be written" if lacking else "there is no such controller")
        group = next((path for _, names, path in own if not names), "/")
        return _version_2([mount for mount in mounts if mount.kind == "cgroup2"], group)

    def require(self, limits: Iterable[Limits]) -> None:
        """Raises ConfigurationError where a limit can't be set."""
        wanted = list(limits)
        for name, asked in (
            ("cpu", any(limit.cpus is not None for limit in wanted)),
            ("memory", any(limit.memory_bytes is not None for limit in wanted)),
        ):
            if asked and name not in self._found:
                raise ConfigurationError(
                    f"a limit needs the control groups' {name} controller, which this process can't use ({self.missing}): "
                    "run it as root, or leave --scale and --memory-gib out"
                )

    def folders(self, run: str, hosts: Iterable[str]) -> list[Path]:
        """The folders that `make` will make, innermost first."""
        parents = dict.fromkeys(tree.group / run for tree in self._found.values())
        return [*(parent / host for parent in parents for host in hosts), *parents]

    def make(self, run: str, hosts: Iterable[str]) -> dict[str, ControlGroup]:
        """A group for each host, below one for the run; nothing where there are no control groups."""
        if "cpu" not in self._found:
            return {}
        hosts = list(hosts)
        for folder in reversed(self.folders(run, hosts)):
            folder.mkdir()
            if self.version == 2 and folder.name == run:
                names = sorted({"cpu", "memory"} & set(self._found))
                (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in names))
        # Beside the machine's other processes each host counts as a process, not the whole cluster as one.
        top = self._found["cpu"].group / run
        if self.version == 1:
            (top / "cpu.shares").write_text(str(_WEIGHT_V1 * len(hosts)))
        else:
            (top / "cpu.weight").write_text(str(min(_WEIGHT_V2 * len(hosts), _MAX_WEIGHT_V2)))
        kind = _Version1 if self.version == 1 else _Version2
        return {host: kind({name: (tree, tree.group / run / host) for name, tree in self._found.items()}) for host in hosts}


def remove(folders: Iterable[Path]) -> None:
    """Removes groups, innermost first, and kills what still runs in them: they are the emulator's alone.

    Raises:
        OSError: a group is still busy after 10 s.
    """
    deadline = time.monotonic() + _REMOVE_TIMEOUT_S
    for folder in folders:
        while folder.exists():
            try:
                folder.rmdir()
            except FileNotFoundError:
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                with contextlib.suppress(OSError):
                    pids = [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
                    for pid in filter(None, pids):  # 0 is a process that can't be seen from here
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.02)


@dataclass(frozen=True)
class _Mount:
    root: str
    point: str
    kind: str
    options: tuple[str, ...]

    @classmethod
    def parse(cls, line: str) -> _Mount:
        before, _, after = line.partition(" - ")
        fields, last = before.split(), after.split()
        return cls(_unescaped(fields[3]), _unescaped(fields[4]), last[0], tuple(last[-1].split(",")))

    def folder(self, group: str) -> Path:
        """Where the group's folder is; the mount point where the mount shows only what is below another group."""
        inside = group[len(self.root) :] if self.root != "/" and (group + "/").startswith(self.root + "/") else group
        folder = Path(self.point, inside.lstrip("/"))
        return folder if folder.is_dir() else Path(self.point)


def _version_1(mounts: list[_Mount], own: dict[str, str]) -> dict[str, Hierarchy]:
    found = {}
    for mount in mounts:
        names = frozenset(mount.options) & {"cpu", "cpuacct", "memory"} if mount.kind == "cgroup" else frozenset()
        group = next((path for listed, path in own.items() if names & set(listed.split(","))), "/")
        for name in names:
            found[name] = Hierarchy(names, Path(mount.point), mount.folder(group))
    return found


def _version_2(mounts: list[_Mount], own: str) -> Hierarchies:
    """The nearest group whose children get the cpu controller: this process's own, or one above it."""
    if not mounts:
        return Hierarchies({}, 2, "no control groups are mounted")
    mount = mounts[0]
    top, group = Path(mount.point), mount.folder(own)
    if not os.path.exists(top / "cgroup.controllers"):
        return Hierarchies({}, 2, f"{top} has no cgroup.controllers")
    # The topmost group alone may have both processes and controllers for its children: a real one has no cgroup.type.
    if group == top and not (top / "cgroup.type").exists() and os.access(top / "cgroup.subtree_control", os.W_OK):
        offered = (top / "cgroup.controllers").read_text().split()
        given = (top / "cgroup.subtree_control").read_text().split()
        missing = [name for name in ("cpu", "memory") if name in offered and name not in given]
        with contextlib.suppress(OSError):
            if missing:
                (top / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in missing))
    reason = f"no group from {group} to {top} gives it to its children"
    for candidate in (group, *group.parents):
        names = frozenset((candidate / "cgroup.subtree_control").read_text().split()) & {"cpu", "memory"}
        if "cpu" in names and os.access(candidate, os.W_OK):
            return Hierarchies({name: Hierarchy(names, top, candidate) for name in names}, 2, reason)
        if "cpu" in names:
            reason = f"{candidate} can't be written"
        if candidate == top:
            break
    return Hierarchies({}, 2, reason)


def _quota_us(cpus: float) -> int:
    return max(_MIN_QUOTA_US, round(cpus * _PERIOD_US))


def _unescaped(text: str) -> str:
    r"""mountinfo writes a blank as \040."""
    return text.encode().decode("unicode_escape") if "\\" in text else text
