"""A job as its own records tell of it: a log, or the summary of an emulated run."""

from __future__ import annotations

import itertools
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hetero_tfdata.emulate.timeline import Timeline, read_steps
from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.plan.observed import HostLoad, Observed, StepTimes, groups_told, steps_told

__all__ = ["of_log", "of_summary"]

_STREAM = re.compile(r"\balgo-\d+\b")
_STEADY = (0.5, 0.95)  # of a run that wrote down no steps
_REPORTS = "opt/ml/output/data/hetero_tfdata"


def of_log(path: Path) -> Observed:
    """What the step timer's lines in a job's log tell, of one host or of all; and which host was of which group.

    Raises:
        ConfigurationError: it can't be read, or no step timer's line is in it.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ConfigurationError(f"--log {path}: can't be read: {error.strerror}") from None
    steps = steps_told(lines)
    if steps is None:
        raise ConfigurationError(
            f"--log {path}: expected lines of the step timer ('hetero_tfdata: epoch 1: 12 steps, 431.0 ms/step, input wait "
            "...'), found none; hetero_tfdata.train.StepTimer prints them"
        )
    by_host: dict[str, list[str]] = {}
    for line in lines:
        found = _STREAM.search(line)
        if found:
            by_host.setdefault(found[0], []).append(line)
    hosts = tuple(HostLoad(name, groups_told(told), None) for name, told in sorted(by_host.items()))
    note = "a log tells how long steps wait, not what for: `--training-job` or `--summary` add the hosts' CPUs and GPUs"
    return Observed(path.stem, f"the log {path}", hosts, steps, (note,))


def of_summary(path: Path) -> Observed:
    """An emulated run, by its summary.json and what lies beside it.

    Raises:
        ConfigurationError: it is no summary.
    """
    folder = path if path.is_dir() else path.parent
    place = folder / "summary.json" if path.is_dir() else path
    try:
        summary = json.loads(place.read_text(encoding="utf-8"))
        told = [
            (str(one["name"]), str(one["group"]), str(one["instance_type"]), one["quota_cores"], one["quota_gbps"])
            for one in summary["hosts"]
        ]
        timeline = Timeline.read(folder / "timeline.csv") if (folder / "timeline.csv").exists() else Timeline()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"--summary {path}: expected summary.json of `hetero-tfdata emulate --output`: {type(error).__name__}: {error}"
        ) from None
    steps = _steps(summary.get("train"), folder, [name for name, *_ in told])
    hosts = []
    for name, group, kind, cores, gbps in told:
        since, until = _window(folder, timeline, name)
        hosts.append(_load(timeline, name, group, kind, cores, gbps, since, until))
    notes = []
    if any(cores is None for *_, cores, _ in told):
        notes.append("the hosts had no CPUs of their own (--scale was not given): how busy they were can't be told")
    notes.append("no GPU was used: accelerators are told by the steps alone")
    return Observed(folder.name, f"the emulated run {folder}", tuple(hosts), steps, tuple(notes))


def _steps(train: Mapping[str, Any] | None, folder: Path, names: Sequence[str]) -> StepTimes | None:
    if train and train.get("step_ms"):
        return StepTimes(float(train["step_ms"]), train.get("input_wait_ms"), train.get("images_per_s"))
    lines: list[str] = []
    for name in names:
        log = folder / f"{name}.log"
        if log.exists():
            lines += log.read_text(encoding="utf-8", errors="replace").splitlines()
    return steps_told(lines)


def _window(folder: Path, timeline: Timeline, host: str) -> tuple[float, float]:
    """When the job read batches: from its fifth step, or the second half of the run."""
    ends = sorted(step.time_s for reports in folder.glob(f"*/{_REPORTS}") for step in read_steps(reports))
    if len(ends) >= 10:
        return ends[4], ends[-1]
    samples = timeline.samples.get(host, ())
    if not samples:
        return 0.0, 0.0
    first, wall_s = samples[0].time_s, timeline.wall_s(host)
    return first + _STEADY[0] * wall_s, first + _STEADY[1] * wall_s


def _load(
    timeline: Timeline, name: str, group: str, kind: str, cores: float | None, gbps: float | None, since: float, until: float
) -> HostLoad:
    wall_s = until - since
    cpu = link = None
    series: dict[str, list[tuple[float, float]]] = {}
    if cores and wall_s > 0:
        series["cpu"] = _course(timeline, name, cores)
        first = timeline.samples[name][0].time_s
        steady = [part for minute, part in series["cpu"] if since <= first + 60 * minute <= until]
        # the median: without steps nobody knows for certain when reading began
        cpu = statistics.median(steady) if steady else None
    if gbps and wall_s > 0:
        most = max(timeline.sent_bytes(name, since, until), timeline.received_bytes(name, since, until))
        link = min(1.0, most * 8 / wall_s / (gbps * 1e9))
    return HostLoad(name, group, kind, cpu=cpu, link=link, vcpus=cores, series=series)


def _course(timeline: Timeline, name: str, cores: float) -> list[tuple[float, float]]:
    samples = timeline.samples.get(name, ())
    course = []
    for one, two in itertools.pairwise(samples):
        passed_s = two.time_s - one.time_s
        part = (two.usage.cpu_s - one.usage.cpu_s) / passed_s / cores if passed_s > 0 else math.nan
        if math.isfinite(part):
            course.append(((two.time_s - samples[0].time_s) / 60, min(1.0, part)))
    return course
