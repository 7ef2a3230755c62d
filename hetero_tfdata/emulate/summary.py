"""What a run came to: exit codes and failures of the hosts, and what the job itself reported."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from hetero_tfdata.emulate.course import MAX_RUNTIME, STOP
from hetero_tfdata.emulate.files import RunFolder, write_by_rename
from hetero_tfdata.emulate.hosts import Host, natural
from hetero_tfdata.emulate.limits import Limits
from hetero_tfdata.emulate.timeline import Event, Step, Timeline, read_steps
from hetero_tfdata.emulate.usage import Usage

__all__ = ["HostResult", "Observed", "Result", "collect", "render"]

TIMELINE, CHART = "timeline.csv", "timeline.png"

# Reports that a job may leave in a host's output/data; the training's is written on one host, the others' on each.
_REPORTS = "hetero_tfdata"
_TRAINING = "training.json"
_LOSSES = "losses.json"


@dataclass(frozen=True)
class HostResult:
    """How one host ended.

    Attributes:
        name: SageMaker's name.
        group: its instance group.
        instance_type: the group's.
        exit_code: the host's; 128 + n where signal n ended it or, at 143, where it was stopped.
        failure: what the host wrote to output/failure, or None.
        wall_s: from its start to its end; 0 where it was never started.
        cpu_s: CPU seconds of all its processes.
        quota_cores: the cores of this machine that it might use; None: no limit.
        quota_gbps: Gbit/s of its link in each direction; None: no limit.
        sent_bytes: what left its link, up to the last sample; None: it had none of its own.
        received_bytes: what came.
        steps: the training steps that its scripts wrote down (timeline.py says how), by time.
    """

    name: str
    group: str
    instance_type: str
    exit_code: int
    failure: str | None
    wall_s: float = 0.0
    cpu_s: float = 0.0
    quota_cores: float | None = None
    quota_gbps: float | None = None
    sent_bytes: int | None = None
    received_bytes: int | None = None
    steps: tuple[Step, ...] = field(default=(), repr=False)

    @property
    def mean_cores(self) -> float:
        """Cores of this machine that it used on average, from its start to its end."""
        return self.cpu_s / self.wall_s if self.wall_s > 0 else 0.0


@dataclass(frozen=True)
class Observed:
    """What the emulator saw of a run.

    Attributes:
        timeline: samples of each host.
        events: what happened, in order.
        limits: of each host that was started.
        emulator_cpu_s: CPU seconds of the emulator's own process.
    """

    timeline: Timeline = field(default_factory=Timeline)
    events: tuple[Event, ...] = ()
    limits: Mapping[str, Limits] = field(default_factory=dict)
    emulator_cpu_s: float = 0.0


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        hosts: in natural order.
        output: the folder with every host's log and /opt/ml, and summary.json.
        ended_by: None; "stop", "maximum runtime" or "time limit"; or the signal that ended the run, such as "SIGINT".
        exit_code: 0 only if every host exited 0, also where the job was stopped; 128 + n after signal n; else 1.
        train: the training's own report, or None.
        served_by_host: batches served, of the hosts that report it.
        losses: what was lost with workers that died (losses.json of the leader's host), or None.
        cache_by_host: what distribute(cache=...) looked up and kept, of the hosts that report it.
        timeline: what each host used when, as in timeline.csv: `timeline.cpu_s("algo-1", since_s, until_s)`.
        events: starts, ends, faults, in order.
        emulator_cpu_s: CPU seconds of the emulator's own process.
    """

    hosts: tuple[HostResult, ...]
    output: Path
    ended_by: str | None = None
    exit_code: int = 0
    train: dict[str, Any] | None = None
    served_by_host: dict[str, int] = field(default_factory=dict)
    losses: dict[str, Any] | None = None
    cache_by_host: dict[str, dict[str, Any]] = field(default_factory=dict)
    timeline: Timeline = field(default_factory=Timeline, repr=False)
    events: tuple[Event, ...] = ()
    emulator_cpu_s: float = 0.0

    @property
    def succeeded(self) -> bool:
        """Whether every host exited 0 and neither a signal nor the time limit ended the run."""
        return self.exit_code == 0


def collect(
    folder: RunFolder,
    hosts: Sequence[Host],
    exit_codes: dict[str, int],
    ended_by: str | None,
    observed: Observed = Observed(),
) -> Result:
    """The result of a run, which is written to summary.json as well."""
    reports = {host.name: folder.base_dir(host.name) / "output" / "data" / _REPORTS for host in hosts}
    results = tuple(_host_result(folder, host, exit_codes[host.name], observed, reports[host.name]) for host in hosts)
    failed = ended_by not in (None, STOP, MAX_RUNTIME) or any(host.exit_code for host in results)
    signals = {number.name: int(number) for number in signal.Signals}
    exit_code = 128 + signals[ended_by] if ended_by in signals else int(failed)
    trainings = [reports[name] / _TRAINING for name in sorted(reports, key=natural)]
    written = {name: _report(path / f"{name}.json") for name, path in reports.items()}
    served = {name: report.get("batches_served") for name, report in written.items()}
    result = Result(
        hosts=results,
        output=folder.path,
        ended_by=ended_by,
        exit_code=exit_code,
        train=next((report for report in map(_report, trainings) if report), None),
        served_by_host={name: count for name, count in served.items() if isinstance(count, int)},
        losses=next((report for path in reports.values() if (report := _report(path / _LOSSES))), None),
        cache_by_host={name: cache for name, report in written.items() if isinstance(cache := report.get("cache"), dict)},
        timeline=observed.timeline,
        events=observed.events,
        emulator_cpu_s=observed.emulator_cpu_s,
    )
    write_by_rename(
        folder.path / "summary.json",
        {
            "hosts": [_as_json(host) for host in results],
            "train": result.train,
            "served_by_host": result.served_by_host,
            "losses": result.losses,
            "cache_by_host": result.cache_by_host,
            "events": [asdict(event) for event in result.events],
            "emulator_cpu_s": round(result.emulator_cpu_s, 3),
        },
    )
    return result


def render(result: Result) -> str:
    """The result as text for a terminal."""
    served = result.served_by_host
    rows = [("host", "group", "instance type", "batches served", "cores used", "exit code")]
    rows += [
        (host.name, host.group, host.instance_type, str(served.get(host.name, "-")), _cores(host), str(host.exit_code))
        for host in result.hosts
    ]
    parts = ["", _table(rows, right=(3, 4, 5))]
    if result.train:
        parts += ["", _training(result.train)]
    if result.losses:
        parts += ["", *_lost(result.losses)]
    if result.cache_by_host:
        parts += ["", _caches(result.cache_by_host)]
    failed = [host for host in result.hosts if host.exit_code]
    if failed:
        parts += ["", *(_failed(host, result.output) for host in failed)]
    parts += ["", f"logs: {result.output}/algo-*.log, /opt/ml of each host: {result.output}/algo-*/opt/ml"]
    return "\n".join(parts)


def _host_result(folder: RunFolder, host: Host, exit_code: int, observed: Observed, reports: Path) -> HostResult:
    samples = observed.timeline.samples.get(host.name, ())
    last = samples[-1].usage if samples else Usage()
    limits = observed.limits.get(host.name, Limits())
    return HostResult(
        host.name,
        host.group,
        host.instance_type,
        exit_code,
        folder.failure(host.name),
        wall_s=observed.timeline.wall_s(host.name),
        cpu_s=last.cpu_s,
        quota_cores=limits.cpus,
        quota_gbps=limits.link_gbps,
        sent_bytes=last.sent_bytes,
        received_bytes=last.received_bytes,
        steps=read_steps(reports),
    )


def _as_json(host: HostResult) -> dict[str, Any]:
    return {
        "name": host.name,
        "group": host.group,
        "instance_type": host.instance_type,
        "exit_code": host.exit_code,
        "wall_s": round(host.wall_s, 3),
        "cpu_s": round(host.cpu_s, 3),
        "mean_cores": round(host.mean_cores, 4),
        "quota_cores": host.quota_cores,
        "quota_gbps": host.quota_gbps,
        "sent_bytes": host.sent_bytes,
        "received_bytes": host.received_bytes,
    }


def _training(train: dict[str, Any]) -> str:
    """One small table of what the training reported; what it did not report is a dash."""
    step, wait = train.get("step_ms"), train.get("input_wait_ms")
    waited = _number(wait, ".1f", " ms")
    if _is_number(step) and _is_number(wait) and step > 0:
        waited += f" ({100 * wait / step:.0f} % of the step)"
    row = (
        str(train.get("model", "-")),
        _number(train.get("ranks"), "d"),
        _number(train.get("steps"), "d"),
        _number(train.get("images_per_s"), ",.1f"),
        _number(step, ".1f", " ms"),
        waited,
        _number(train.get("loss_first"), ".4f"),
        _number(train.get("loss_last"), ".4f"),
    )
    header = ("model", "ranks", "steps", "images/s", "step time", "input wait", "first loss", "last loss")
    return _table([header, row], right=(1, 2, 3, 4, 5, 6, 7))


def _lost(losses: dict[str, Any]) -> list[str]:
    """One line for each worker that was started again and each pass that lost rows, as far as the report tells."""
    lines = [f"{worker} was started again, times: {times}" for worker, times in losses.get("restarted", {}).items()]
    for one in losses.get("lost", []):
        lines.append(f"{one.get('stream')}, pass {one.get('pass')}: {one.get('rows')} of {one.get('of')} rows did not come")
    return lines


def _caches(caches: dict[str, dict[str, Any]]) -> str:
    """What each host kept, and the seconds of computing that it saved."""
    rows = [("cache", "hits", "misses", "MB held", "seconds saved")]
    for name in sorted(caches, key=natural):
        cache = caches[name]
        held = cache.get("bytes_held")
        rows.append(
            (
                name,
                _number(cache.get("hits"), ",d"),
                _number(cache.get("misses"), ",d"),
                _number(held / 1e6 if _is_number(held) else None, ",.1f", ", full" if cache.get("full") else ""),
                _number(cache.get("saved_s"), ",.1f"),
            )
        )
    return _table(rows, right=(1, 2, 3, 4))


def _cores(host: HostResult) -> str:
    if not host.wall_s:
        return "-"
    return f"{host.mean_cores:.2f}" + (f" of {host.quota_cores:.3g}" if host.quota_cores is not None else "")


def _failed(host: HostResult, output: Path) -> str:
    if host.failure and host.failure.strip():
        reason = host.failure.strip().splitlines()[0]
    elif host.exit_code == 143:
        reason = "stopped before it was done"
    elif host.exit_code > 128:
        reason = f"killed by signal {host.exit_code - 128}"
    else:
        reason = "left no reason"
    return f"{host.name} ({host.group}) failed: {reason}\n  read {output / host.name}.log"


def _table(rows: Sequence[tuple[str, ...]], right: tuple[int, ...]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _number(value: Any, form: str, unit: str = "") -> str:
    if not _is_number(value):
        return "-"
    return f"{int(value) if form.endswith('d') else value:{form}}{unit}"


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _report(path: Path) -> dict[str, Any]:
    """A JSON object that a host may have written; empty where there is none or it is broken."""
    try:
        report = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}
