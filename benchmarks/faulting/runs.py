"""Runs a cell on the emulator and judges what came of it."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faulting.cells import Cell
from hetero_tfdata.emulate import Group, HostResult, Job, Result, run
from hetero_tfdata.service.health_port import TOKEN_VARIABLE

_SOURCE = Path(__file__).parent / "job"
_TIMEOUT_S = 300.0

__all__ = ["Finding", "judge", "measure"]


@dataclass(frozen=True)
class Finding:
    """What one run of a cell showed.

    Attributes:
        passed: whether it was as it must be.
        seconds: what the cell's limit is about; None where it could not be told.
        text: what was wrong, else empty.
    """

    passed: bool
    seconds: float | None
    text: str = ""


def measure(
    cell: Cell,
    output: Path,
    *,
    isolation: str = "namespace",
    times: Mapping[str, float] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Finding:
    """Runs it: two data hosts and a training host, whose logs stay in `output`.

    Args:
        cell: which one.
        output: folder.
        isolation: of the emulator.
        times: of its faults, for `Cell.schedule`; None: the usual ones.
        arguments: of the job besides the cell's.
    """
    job = Job(
        groups=[Group("data_group", "ml.c5.xlarge", 2), Group("dnn_group", "ml.p3.2xlarge", 1)],
        source_dir=_SOURCE,
        entry_point="launcher.py",
        distribution="dnn_group" if cell.ranks > 1 else None,
        processes_per_host=cell.ranks,
        hyperparameters={**cell.arguments, **(arguments or {})},
        environment={TOKEN_VARIABLE: secrets.token_urlsafe()} if cell.token else {},
    )
    result = run(
        job,
        output=output,
        timeout_s=_TIMEOUT_S,
        isolation=isolation,
        faults=cell.schedule(**(times or {})),
        memory_gib=cell.memory_gib,
        stop_grace_s=5.0,
    )
    return judge(cell, result)


def judge(cell: Cell, result: Result) -> Finding:
    """What a run of the cell showed."""
    missed = [event.text for event in result.events if event.kind == "missed"]
    if missed:
        return Finding(False, None, missed[0])
    if result.ended_by is not None:
        running = [host.name for host in result.hosts if host.exit_code > 128]
        return Finding(False, None, f"hung until the {result.ended_by}: {', '.join(running)}")
    gone = {_place(result, place) for place in cell.gone}
    left = [host for host in result.hosts if host.name not in gone]
    if cell.must == "end":
        return _ended(cell, result, left)
    codes = {host.name: host.exit_code for host in left if host.exit_code}
    if codes:
        return Finding(False, None, f"expected 0 of every host, got {codes}")
    log = "".join(path.read_text(errors="replace") for path in result.output.glob("*.log"))
    if cell.told not in log:
        return Finding(False, None, f"expected {cell.told!r} in a log")
    reports = [json.loads(path.read_text()) for path in sorted(result.output.glob("*/opt/ml/output/data/report-*.json"))]
    twice = sum(report["twice"] for report in reports)
    if not reports or (twice and not cell.repeats):
        return Finding(False, None, f"{twice} rows came twice" if reports else "no rank wrote what it read")
    if cell.must == "succeed":
        trained = next(host.name for host in left if host.group == "dnn_group")
        return _limited(cell, max(_exit(result, host.name) for host in left) - _exit(result, trained), "the training's end")
    if cell.must == "resume":
        return _limited(cell, _resumed_s(result, reports[0]), "the workers' return")
    if cell.must == "keep pace":
        return _paced(cell, result, reports[0]["times"])
    begin = _fault_time(result) or reports[0]["times"][0]
    gaps = [after - before for before, after in itertools.pairwise(reports[0]["times"]) if after > begin]
    return _limited(cell, max(gaps, default=None), "the last batch")


def _ended(cell: Cell, result: Result, left: Sequence[HostResult]) -> Finding:
    zero = [host.name for host in left if host.exit_code == 0]
    if zero:
        return Finding(False, None, f"expected other codes than 0, got 0 of {', '.join(zero)}")
    mute = [host.name for host in left if not host.failure or cell.told not in host.failure]
    if mute:
        return Finding(
            False, None, f"expected {cell.told!r} in the failure of every host, {mute[0]} has: {_failure(result, mute[0])}"
        )
    begin = _fault_time(result)
    if begin is None:
        # a host's own end: the first one
        begin = min(_exit(result, host.name) for host in result.hosts)
    return _limited(cell, max(_exit(result, host.name) for host in left) - begin, "the fault")


def _paced(cell: Cell, result: Result, times: Sequence[float]) -> Finding:
    """Steps a second while garbage was sent, against the other times."""
    files = result.output.glob("*/opt/ml/output/data/garbage.jsonl")
    loud = [tuple(json.loads(line)) for file in files for line in file.read_text().splitlines()]
    loud = [(begin, end, sent) for begin, end, sent in loud if times[0] < begin and end < times[-1]]
    if not loud:
        return Finding(False, None, "no garbage was sent while the training read")
    per_s = sum(sent for *_, sent in loud) / sum(end - begin for begin, end, _ in loud)
    if per_s < 0.9 * cell.arguments["garbage"]:
        return Finding(False, None, f"{per_s:.0f} connections a second, expected {cell.arguments['garbage']}")
    disturbed = sum(any(begin <= when < end for begin, end, _ in loud) for when in times)
    loud_s = sum(end - begin for begin, end, _ in loud)
    quiet = (len(times) - disturbed) / (times[-1] - times[0] - loud_s)
    slower = 1 - disturbed / loud_s / quiet
    text = f"{100 * slower:.1f} % fewer steps at {per_s:.0f} connections a second"
    return Finding(slower <= cell.within_s, slower, "" if slower <= cell.within_s else text)


def _resumed_s(result: Result, report: dict[str, Any]) -> float | None:
    """From when the struck host's workers served again to their next batch; None: they made none."""
    samples = report["samples"]
    over = [event for event in result.events if event.kind == "restored"]
    if over:
        begin, host = over[-1].time_s, over[-1].host
        after = [sample for sample in samples if sample[1] == host and sample[0] > begin and sample[2]]
    else:
        # killed: from the first sample in which all that were killed serve again
        host = max(samples, key=lambda sample: sample[3])[1]
        restarts = max(sample[3] for sample in samples)
        after = [sample for sample in samples if sample[1] == host and sample[3] == restarts and sample[2]]
        begin = after[0][0] if restarts and after else 0.0
    return next((sample[0] - begin for sample in after if begin and sample[4] > after[0][4]), None)


def _place(result: Result, place: str) -> str:
    """The host that is, such as "data_group/2", the second of its group."""
    group, _, number = place.partition("/")
    return [host.name for host in result.hosts if host.group == group][int(number or 1) - 1]


def _limited(cell: Cell, seconds: float | None, since: str) -> Finding:
    if seconds is None:
        return Finding(False, None, "batches did not resume")
    late = seconds > cell.within_s
    return Finding(not late, seconds, f"{seconds:.1f} s after {since}, expected {cell.within_s:g} s" if late else "")


def _fault_time(result: Result) -> float | None:
    return next((event.time_s for event in result.events if event.kind == "fault"), None)


def _exit(result: Result, host: str) -> float:
    return next(event.time_s for event in result.events if event.kind == "exited" and event.host == host)


def _failure(result: Result, name: str) -> str:
    return (next(host.failure for host in result.hosts if host.name == name) or "nothing").splitlines()[0][:200]
