"""What timeline.png shows, as values: a row for each host, with its strips and faults."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hetero_tfdata.emulate.timeline import Event, Sample, Timeline

if TYPE_CHECKING:
    from hetero_tfdata.emulate.summary import HostResult, Result

__all__ = ["Fault", "Row", "Strip", "rows", "short", "span_s"]

# Shorter intervals, between the last sample and the one at a host's end, would show as noise.
_MIN_INTERVAL_S = 0.4
_MB = 1e6


@dataclass(frozen=True)
class Strip:
    """One measure of one host.

    Attributes:
        name: what it is.
        unit: of the values.
        most: the top of its axis.
        curves: what and (begin, end, value) of each; a value holds from begin to end, in seconds of the run.
        dots: (moment, value) instead.
        limit: the most that can be, or None.
        text: its figures.
    """

    name: str
    unit: str
    most: float
    curves: tuple[tuple[str, tuple[tuple[float, float, float], ...]], ...] = ()
    dots: tuple[tuple[float, float], ...] = ()
    limit: float | None = None
    text: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fault:
    """A fault of a host from `begin_s` to `end_s`, in seconds of the run; the same where it is over at once."""

    name: str
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class Row:
    """What is shown of one host."""

    host: str
    group: str
    instance_type: str
    exit_code: int
    strips: tuple[Strip, ...]
    faults: tuple[Fault, ...]


def rows(result: Result) -> list[Row]:
    """What the chart shows, by host."""
    begin_s, end_s = span_s(result)
    cores = [value for host in result.hosts for _, _, value in _rates(_cpu(result, host), begin_s)]
    most = {"cores": _rounded(max([*cores, 0.5])), "bytes": 0.0}
    for host in result.hosts:
        for samples in (_sent(result, host), _received(result, host)):
            most["bytes"] = max([most["bytes"], *(value for _, _, value in _rates(samples, begin_s))])
    return [
        Row(
            host.name,
            host.group,
            host.instance_type,
            host.exit_code,
            tuple(_strips(result, host, begin_s, most)),
            tuple(_faults(result.events, host.name, begin_s, _end_s(result, host, end_s))),
        )
        for host in result.hosts
    ]


def span_s(result: Result) -> tuple[float, float]:
    """The first and the last moment of a run, in seconds since 1970."""
    moments = [one.time_s for samples in result.timeline.samples.values() for one in samples]
    return min(moments), max(max(moments), min(moments) + 1.0)


def _strips(result: Result, host: HostResult, begin_s: float, most: dict[str, float]) -> list[Strip]:
    used = _rates(_cpu(result, host), begin_s)
    if host.quota_cores is not None:
        share = 100 * host.mean_cores / host.quota_cores
        text = (
            f"{host.mean_cores:.2f} of {host.quota_cores:.3g} core{'' if host.quota_cores == 1 else 's'} ({share:.0f} %)",
            f"{host.cpu_s:,.1f} CPU seconds",
        )
    else:
        text = (f"{host.mean_cores:.2f} cores, no quota", f"{host.cpu_s:,.1f} CPU seconds")
    top = host.quota_cores or most["cores"]
    strips = [Strip("CPU", "core" if top == 1 else "cores", top, (("CPU", used),), limit=host.quota_cores, text=text)]
    if host.sent_bytes is not None and host.received_bytes is not None:
        limit = None if host.quota_gbps is None else host.quota_gbps * 125
        sent, received = (_rates(one, begin_s, _MB) for one in (_sent(result, host), _received(result, host)))
        seen = max([value for _, _, value in (*sent, *received)] + [most["bytes"] / _MB / 20, 0.01])
        strips.append(
            Strip(
                "link",
                "MB/s",
                _rounded(seen),
                (("sent", sent), ("received", received)),
                limit=limit,
                text=(
                    f"sent {_bytes(host.sent_bytes)}, received {_bytes(host.received_bytes)}",
                    *([f"at most {short(limit)} MB/s each way"] if limit else []),
                ),
            )
        )
    if host.steps:
        times = sorted(1000 * step.step_s for step in host.steps)
        median, high = times[len(times) // 2], times[math.ceil(0.95 * len(times)) - 1]
        dots = tuple((step.time_s - begin_s, 1000 * step.step_s) for step in host.steps)
        # Two medians at the least, so that steps of equal length are a line in the middle; not so high that a first step,
        # which compiles, flattens the others: it is drawn at the top.
        top = _rounded(max(min(high, 4 * median), 2 * median, 0.1))
        strips.append(Strip("step", "ms", top, dots=dots, text=(f"median {median:,.1f} ms", f"{len(times):,} steps")))
    return strips


def _end_s(result: Result, host: HostResult, otherwise: float) -> float:
    samples = result.timeline.samples.get(host.name)
    return samples[-1].time_s if samples else otherwise


def _faults(events: Sequence[Event], host: str, begin_s: float, end_s: float) -> list[Fault]:
    found = []
    for number, event in enumerate(events):
        if event.kind != "fault" or event.host != host:
            continue
        kind = event.fault.split(":")[0]
        over = next(
            (later.time_s for later in events[number:] if later.kind == "restored" and later.fault == event.fault), None
        )
        if over is None:
            over = event.time_s if kind.startswith("kill-") else end_s
        found.append(Fault(_label(event.fault), event.time_s - begin_s, over - begin_s))
    return found


def _label(fault: str) -> str:
    """slow:0.1:30s:algo-2 -> slow 0.1."""
    kind, *rest = fault.split(":")
    return f"{kind} {rest[0]}" if kind.startswith("slow") or kind == "kill-rank" else kind


_Points = list[tuple[float, float]]


def _cpu(result: Result, host: HostResult) -> _Points:
    return _series(result.timeline, host, lambda one: one.usage.cpu_s)


def _sent(result: Result, host: HostResult) -> _Points:
    return _series(result.timeline, host, lambda one: one.usage.sent_bytes or 0)


def _received(result: Result, host: HostResult) -> _Points:
    return _series(result.timeline, host, lambda one: one.usage.received_bytes or 0)


def _series(timeline: Timeline, host: HostResult, of: Callable[[Sample], float]) -> _Points:
    return [(one.time_s, of(one)) for one in timeline.samples.get(host.name, ())]


def _rates(points: _Points, begin_s: float, unit: float = 1.0) -> tuple[tuple[float, float, float], ...]:
    """(begin, end, growth a second) between samples."""
    kept = points[:1]
    for point in points[1:]:
        if point[0] - kept[-1][0] >= _MIN_INTERVAL_S:
            kept.append(point)
    if len(kept) > 1 and points[-1][0] > kept[-1][0]:
        kept[-1] = points[-1]
    return tuple(
        (one[0] - begin_s, two[0] - begin_s, (two[1] - one[1]) / (two[0] - one[0]) / unit)
        for one, two in itertools.pairwise(kept)
    )


def _rounded(value: float) -> float:
    """The next of 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * part for part in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if power * part >= value * 0.999)


def short(value: float) -> str:
    """Such as 0.75, 12.5 or 1,250."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"
