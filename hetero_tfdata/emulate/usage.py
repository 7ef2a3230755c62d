"""What a host has used of CPU and link, from the kernel's own counters. Formats: proc(5)."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["ProcessTable", "Usage", "link_bytes"]

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Counters of one host since it began; None: it has no link of its own.

    Attributes:
        cpu_s: CPU seconds of all its processes, ended ones included.
        sent_bytes: what left its link, headers included.
        received_bytes: what came.
    """

    cpu_s: float = 0.0
    sent_bytes: int | None = None
    received_bytes: int | None = None


class ProcessTable:
    """The machine's processes at one moment, read when first asked for: once for all hosts of a run."""

    def __init__(self) -> None:
        self._read: dict[int, tuple[int, float]] | None = None  # process id -> parent, CPU seconds

    def cpu_s(self, first: int) -> float:
        """CPU seconds of a process and all below it, and of those below it that ended and were waited for."""
        table = self._table()
        children: dict[int, list[int]] = {}
        for pid, (parent, _) in table.items():
            children.setdefault(parent, []).append(pid)
        total, pending = 0.0, [first] if first in table else []
        while pending:
            pid = pending.pop()
            total += table[pid][1]
            pending += children.get(pid, ())
        return total

    def _table(self) -> dict[int, tuple[int, float]]:
        if self._read is None:
            self._read = {}
            for name in os.listdir("/proc"):
                if name.isdigit():
                    try:
                        with open(f"/proc/{name}/stat", "rb") as file:
                            line = file.read()
                    except OSError:
                        continue  # it has ended
                    # The second field, the name in brackets, may hold anything. Then: state, parent ...; 14 to 17 of the
                    # line are the process's own times and those of its children that it has waited for.
                    fields = line[line.rindex(b")") + 2 :].split()
                    self._read[int(name)] = int(fields[1]), sum(map(int, fields[11:15])) * _TICK_S
        return self._read


def link_bytes(pid: int, interface: str) -> tuple[int, int] | None:
    """(sent, received) of an interface, in the network of a process; None where there is none any more."""
    try:
        with open(f"/proc/{pid}/net/dev") as file:
            for line in file:
                name, colon, numbers = line.partition(":")
                if colon and name.strip() == interface:
                    fields = numbers.split()
                    return int(fields[8]), int(fields[0])
    except OSError:
        pass
    return None
