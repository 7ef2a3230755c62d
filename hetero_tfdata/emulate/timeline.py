"""The course of a run: what each host has used, about once a second, and what happened when.

timeline.csv in the run's output has one line for each sample of a host, written while it runs: `time_s` (seconds since 1970,
as `time.time()` says them), `host`, `cpu_s` (CPU seconds of all its processes since it began), `sent_bytes` and
`received_bytes` (of its link since it began; empty under process isolation, where it has none).

A script adds its steps by a file output/data/hetero_tfdata/steps*.csv below its /opt/ml, one line for each step:
`time_s,step_s`, the moment of its end and how long it took; one file for each rank that writes.
"""

from __future__ import annotations

import bisect
import contextlib
import csv
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TextIO

from hetero_tfdata.emulate.usage import Usage

__all__ = ["Event", "Recorder", "Sample", "Step", "Timeline", "read_steps"]

# Often enough to see a step's rhythm change, seldom enough to cost nothing: one reading of 16 hosts takes about 3 ms.
INTERVAL_S = 1.0
_COLUMNS = ("time_s", "host", "cpu_s", "sent_bytes", "received_bytes")


@dataclass(frozen=True)
class Sample:
    """What a host had used at one moment.

    Attributes:
        time_s: seconds since 1970.
        usage: since the host began.
    """

    time_s: float
    usage: Usage


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        time_s: seconds since 1970.
        host: to which host; None: to the run.
        kind: "started", "exited", "stopped"; of a fault "fault", "restored", "waiting" or "missed".
        text: one line.
        fault: which, such as "cut:15s:algo-2"; else empty.
    """

    time_s: float
    host: str | None
    kind: str
    text: str
    fault: str = ""


@dataclass(frozen=True)
class Step:
    """A training step; `time_s`: when it ended, in seconds since 1970; `step_s`: how long it took."""

    time_s: float
    step_s: float


@dataclass(frozen=True)
class Timeline:
    """The samples of each host, by time.

    Between two samples a counter is taken to grow evenly; before the first it is 0, after the last it stays.
    """

    samples: Mapping[str, tuple[Sample, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def read(cls, path: Path | str) -> Timeline:
        """From a timeline.csv, of a run that still runs, too."""
        found: dict[str, list[Sample]] = {}
        whole, _, _ = Path(path).read_text().rpartition("\n")  # what follows is half written
        for row in csv.DictReader(whole.splitlines()):
            counters = (float(row["cpu_s"]), _count(row["sent_bytes"]), _count(row["received_bytes"]))
            found.setdefault(row["host"], []).append(Sample(float(row["time_s"]), Usage(*counters)))
        return cls({host: tuple(samples) for host, samples in found.items()})

    def cpu_s(self, host: str, since_s: float = -math.inf, until_s: float = math.inf) -> float:
        """CPU seconds that a host used between two moments, in seconds since 1970."""
        return self._between([(one.time_s, one.usage.cpu_s) for one in self.samples.get(host, ())], since_s, until_s)

    def sent_bytes(self, host: str, since_s: float = -math.inf, until_s: float = math.inf) -> float:
        """Bytes that left a host's link between two moments; 0 without a link of its own."""
        samples = self.samples.get(host, ())
        return self._between([(one.time_s, one.usage.sent_bytes or 0) for one in samples], since_s, until_s)

    def received_bytes(self, host: str, since_s: float = -math.inf, until_s: float = math.inf) -> float:
        """Bytes that came over a host's link between two moments; 0 without a link of its own."""
        samples = self.samples.get(host, ())
        return self._between([(one.time_s, one.usage.received_bytes or 0) for one in samples], since_s, until_s)

    def wall_s(self, host: str) -> float:
        """From a host's start to its end."""
        samples = self.samples.get(host, ())
        return samples[-1].time_s - samples[0].time_s if samples else 0.0

    @staticmethod
    def _between(points: list[tuple[float, float]], since_s: float, until_s: float) -> float:
        return max(0.0, _at(points, until_s) - _at(points, since_s))


class Recorder:
    """Writes timeline.csv while the run goes on, and keeps its events."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[Event] = []
        self._samples: dict[str, list[Sample]] = {}
        self._file: TextIO = open(path, "w", buffering=1)  # noqa: SIM115 (closed by `close`)
        self._file.write(",".join(_COLUMNS) + "\n")
        self._next = time.monotonic() + INTERVAL_S

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next sample; asked once for each."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + INTERVAL_S
        return True

    def sample(self, host: str, usage: Usage | None) -> None:
        """Adds a sample of now; a counter never falls, for one of a process that is gone may be missing in it."""
        before = self._samples.setdefault(host, [])
        last = before[-1].usage if before else Usage()
        if usage is None:
            usage = last
        usage = Usage(
            max(usage.cpu_s, last.cpu_s),
            _larger(usage.sent_bytes, last.sent_bytes),
            _larger(usage.received_bytes, last.received_bytes),
        )
        before.append(Sample(time.time(), usage))
        counts = ",".join("" if count is None else str(count) for count in (usage.sent_bytes, usage.received_bytes))
        self._file.write(f"{before[-1].time_s:.3f},{host},{usage.cpu_s:.3f},{counts}\n")

    def note(self, kind: str, text: str, host: str | None = None, fault: str = "") -> None:
        """Adds an event of now."""
        self.events.append(Event(time.time(), host, kind, text, fault))

    @property
    def timeline(self) -> Timeline:
        """What was recorded so far."""
        return Timeline({host: tuple(samples) for host, samples in self._samples.items()})

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


def read_steps(reports: Path) -> tuple[Step, ...]:
    """The steps that a host's scripts wrote down in the folder, those of all ranks, by time; broken lines are left out."""
    steps = []
    for path in sorted(reports.glob("steps*.csv")):
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            with contextlib.suppress(ValueError):
                time_s, step_s = map(float, line.split(","))
                if math.isfinite(time_s) and 0 <= step_s < math.inf:
                    steps.append(Step(time_s, step_s))
    return tuple(sorted(steps, key=lambda step: step.time_s))


def _at(points: list[tuple[float, float]], time_s: float) -> float:
    place = bisect.bisect_right(points, (time_s, math.inf))
    if place == 0:
        return 0.0
    if place == len(points):
        return points[-1][1]
    (begin_s, begin), (end_s, end) = points[place - 1], points[place]
    return begin + (end - begin) * (time_s - begin_s) / (end_s - begin_s)


def _larger(one: int | None, other: int | None) -> int | None:
    found: Iterable[int] = [count for count in (one, other) if count is not None]
    return max(found, default=None)


def _count(text: str) -> int | None:
    return int(text) if text else None
