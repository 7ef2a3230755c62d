"""Faults on schedule: `20s:kill-worker:algo-2`.

    TIME:KIND[:ARGUMENT][:DURATION]:HOST

| kind | what happens |
|---|---|
| kill-worker:HOST | SIGKILL for a process of the host that has the bare argument `worker` |
| kill-dispatcher[:HOST] | the same for `dispatcher`, wherever it is |
| kill-rank:N | SIGKILL for the process that was started as rank N (OMPI_COMM_WORLD_RANK in its environment) |
| kill-host:HOST | power off: every process of the host |
| freeze[:DURATION]:HOST | every process stands still, and its network with it |
| cut[:DURATION]:HOST | its link is down |
| slow:FACTOR[:DURATION]:HOST | CPUs and link at that part of what they were; slow-cpu, slow-link: one of them |
| disk-full[:DURATION]:HOST | nothing more can be written to /tmp and to the model, output and checkpoints folders of /opt/ml |

TIME and DURATION are such as 20s, 500ms, 1.5m; TIME counts from the start of the first host. Without DURATION it lasts to the
end. HOST is a host (algo-2), the first host of a group (data_group) or its N-th (data_group/2). What is not there yet at its
time happens as soon as it is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hetero_tfdata.emulate.hosts import Host
from hetero_tfdata.emulate.job import Job
from hetero_tfdata.errors import ConfigurationError

__all__ = ["Fault", "located"]

_FORM = "TIME:KIND[:ARGUMENT][:DURATION]:HOST"
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# What each kind takes behind its name.
_SLOW = ("slow", "slow-cpu", "slow-link")
_LASTING = ("freeze", "cut", *_SLOW, "disk-full")
_NEED_NAMESPACES = ("cut", *_SLOW, "disk-full")
_HOSTLESS = ("kill-dispatcher", "kill-rank")  # where it is, shows
_KINDS = ("kill-worker", "kill-dispatcher", "kill-rank", "kill-host", *_LASTING)


@dataclass(frozen=True)
class Fault:
    """One fault; `Fault.parse("20s:cut:15s:algo-2")`.

    Attributes:
        at_s: when, from the start of the first host.
        kind: such as "kill-worker".
        host: a host or a group as it was written, or None: wherever it is.
        rank: of kill-rank.
        factor: of slow: what is left, more than 0 and at most 1.
        duration_s: how long it lasts; None: to the end, or it is over at once.
    """

    at_s: float
    kind: str
    host: str | None = None
    rank: int | None = None
    factor: float | None = None
    duration_s: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            near = difflib.get_close_matches(self.kind, _KINDS, 1)
            raise ConfigurationError(
                f"fault kind {self.kind!r}: expected {', '.join(_KINDS)}" + (f"; did you mean {near[0]}?" if near else "")
            )
        if (self.kind == "kill-rank") != (self.rank is not None) or (self.kind in _SLOW) != (self.factor is not None):
            raise ConfigurationError(f"fault {self.kind}: expected a rank for kill-rank, a factor for slow, neither for others")
        if self.factor is not None and not 0 < self.factor <= 1:
            raise ConfigurationError(f"fault {self.kind}: expected a factor of more than 0 and at most 1, got {self.factor:g}")
        if self.duration_s is not None and self.kind not in _LASTING:
            raise ConfigurationError(f"fault {self.kind} is over at once: it takes no duration ({', '.join(_LASTING)} do)")
        if self.host is None and self.kind not in _HOSTLESS:
            raise ConfigurationError(f"fault {self.kind}: expected the host, such as {self.kind}:algo-2, got none")
        if self.host is not None and self.kind == "kill-rank":
            raise ConfigurationError(f"fault kill-rank: ranks are told by their number alone, got host {self.host!r}")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """A fault from TIME:KIND[:ARGUMENT][:DURATION]:HOST.

        Raises:
            ConfigurationError: says what was expected, in one line.
        """
        at, *rest = text.split(":")
        try:
            at_s = _seconds(at)
            if at_s is None:
                raise ConfigurationError(f"expected a time such as 20s, 500ms or 1.5m first, got {at!r}")
            if not rest:
                raise ConfigurationError(f"expected {_FORM}")
            kind, *words = rest
            rank = factor = duration_s = None
            if kind == "kill-rank":
                rank = int(words.pop(0)) if words and words[0].isdigit() else None
                if rank is None:
                    raise ConfigurationError("expected the rank's number, such as 20s:kill-rank:3")
            if kind in _SLOW:
                factor = _factor(words.pop(0) if words else "")
                if factor is None:
                    raise ConfigurationError(f"expected what is left of it, such as 20s:{kind}:0.1:algo-2")
            if words and kind in _KINDS and (duration_s := _seconds(words[0])) is not None:
                words.pop(0)
            if len(words) > 1:
                raise ConfigurationError(f"expected {_FORM}, got {':'.join(words)!r} where one host should be")
            host = words[0] if words and words[0] else None
            return cls(at_s, kind, host, rank, factor, duration_s)
        except ConfigurationError as error:
            raise ConfigurationError(f"--fault {text!r}: {error}") from None

    @property
    def needs_namespaces(self) -> bool:
        """Whether a plain process can't have it."""
        return self.kind in _NEED_NAMESPACES

    @property
    def lasts(self) -> bool:
        """Whether it is undone when its time is over."""
        return self.kind in _LASTING

    def __str__(self) -> str:
        """As `parse` reads it, without the time: such as "slow:0.1:30s:algo-2"."""
        duration = None if self.duration_s is None else f"{self.duration_s:g}s"
        factor = None if self.factor is None else f"{self.factor:g}"
        return ":".join(str(part) for part in (self.kind, self.rank, factor, duration, self.host) if part is not None)


def located(faults: Iterable[Fault | str], job: Job, hosts: Sequence[Host], *, isolation: str) -> list[Fault]:
    """The faults of a run in order of time, each with its host's name.

    Raises:
        ConfigurationError: a host, a group or a rank is not in the job, or the isolation can't do it.
    """
    found = []
    for given in faults:
        fault = Fault.parse(given) if isinstance(given, str) else given
        if fault.needs_namespaces and isolation != "namespace":
            what = "disk" if fault.kind == "disk-full" else "link and limits"
            raise ConfigurationError(
                f"--fault {fault}: a plain process has no {what} of its own; it needs --isolation namespace"
            )
        ranks = job.processes_per_host * sum(host.group == job.distribution for host in hosts)
        if fault.rank is not None and fault.rank >= ranks:
            raise ConfigurationError(f"--fault {fault}: this job has {f'ranks 0 to {ranks - 1}' if ranks else 'no ranks'}")
        host = _host(fault, hosts) if fault.host is not None else None
        found.append(Fault(fault.at_s, fault.kind, host, fault.rank, fault.factor, fault.duration_s))
    return sorted(found, key=lambda fault: fault.at_s)


def _host(fault: Fault, hosts: Sequence[Host]) -> str:
    assert fault.host is not None
    if any(host.name == fault.host for host in hosts):
        return fault.host
    group, _, number = fault.host.rpartition("/") if re.search(r"/[0-9]+$", fault.host) else (fault.host, "", "1")
    members = [host.name for host in hosts if host.group == group]
    if 1 <= int(number) <= len(members):
        return members[int(number) - 1]
    groups = ", ".join(dict.fromkeys(host.group for host in hosts))
    raise ConfigurationError(
        f"--fault {fault}: {fault.host!r} is not in this job (hosts: {hosts[0].name} to {hosts[-1].name}; groups: {groups})"
    )


def _seconds(text: str) -> float | None:
    match = _TIME.fullmatch(text)
    return float(match[1]) * _SECONDS[match[2]] if match else None


def _factor(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
