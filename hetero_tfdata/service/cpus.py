"""What a process may use of this machine's CPUs, what it has used, and what is idle."""

from __future__ import annotations

import contextlib
import os
import threading
import time

__all__ = ["cpu_quota", "cpu_seconds", "idle_cpus", "usable_cpus"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def usable_cpus() -> int:
    """CPUs that this process may really use, whole ones; at least 1."""
    return max(1, round(cpu_quota()))


def cpu_quota() -> float:
    """CPU seconds a second that this process may use: its affinity mask, cut by the cgroup's quota, which may be below 1."""
    cpus = float(len(os.sched_getaffinity(0)))
    for quota_file, period_file in (
        ("/sys/fs/cgroup/cpu.max", None),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    ):
        with contextlib.suppress(OSError, ValueError):
            with open(quota_file) as file:
                words = file.read().split()
            if period_file is not None:
                with open(period_file) as file:
                    words += file.read().split()
            if words[0] not in ("max", "-1"):
                cpus = min(cpus, int(words[0]) / int(words[1]))
            break
    return cpus


def cpu_seconds(pid: int) -> float | None:
    """CPU seconds, user and system, that a process and its ended children have used; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            # the name in parentheses may hold spaces and parentheses; utime, stime, cutime, cstime are fields 14 to 17
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return sum(int(ticks) for ticks in fields[11:15]) / _TICKS_PER_S


def idle_cpus(window_s: float, stopped: threading.Event) -> float | None:
    """CPUs that this process could have used over the next `window_s` seconds and nobody did; None if `stopped` was set.

    That is the idle time of the CPUs of its affinity mask, and no more than its cgroup's quota leaves.
    """
    started, machine_before, group_before = time.monotonic(), _machine_idle_s(), _group_used_s()
    if stopped.wait(timeout=window_s):
        return None
    elapsed_s = time.monotonic() - started
    idle = (_machine_idle_s() - machine_before) / elapsed_s
    group_after = _group_used_s()
    if group_before is not None and group_after is not None:
        # other groups' use counts against the machine, not against the quota
        idle = min(idle, usable_cpus() - (group_after - group_before) / elapsed_s)
    return max(0.0, idle)


def _machine_idle_s() -> float:
    """Idle seconds since boot, waiting for disks included, summed over the CPUs of the affinity mask."""
    allowed = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    with open("/proc/stat") as file:
        rows = [line.split() for line in file if line.startswith("cpu")]
    return sum(int(row[4]) + int(row[5]) for row in rows if row[0] in allowed) / _TICKS_PER_S


def _group_used_s() -> float | None:
    """CPU seconds that this process's cgroup has used; None where it can't be told."""
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/cpu.stat") as file:
        for line in file:
            name, _, value = line.partition(" ")
            if name == "usage_usec":
                return int(value) / 1e6
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/cpuacct/cpuacct.usage") as file:
        return int(file.read()) / 1e9
    return None
