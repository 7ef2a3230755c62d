"""One job on the emulator: what it measured of itself, and what the hosts' CPUs did meanwhile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from clustering.cases import Case, Workload
from hetero_tfdata.cluster.instances import instance
from hetero_tfdata.emulate import Group, Job, Result, run
from hetero_tfdata.plan.profile import Profile

_SOURCE = Path(__file__).parent / "job"
_TIMEOUT_S = 900.0
_NO_LIMITS: dict[str, Any] = {"isolation": "process"}

__all__ = ["JobFailed", "measure", "profile"]


class JobFailed(Exception):
    """A host that did not end with 0; the message names it, its reason and its log."""


def measure(
    workload: Workload,
    case: Case,
    *,
    batch: int,
    floors_ms: Sequence[float],
    work: str,
    steps: int,
    frames: Path,
    output: Path,
    burn_ms: float = 0.0,
    local_workers: int = 1,
    has_limits: bool = True,
) -> dict[str, Any]:
    """Runs the case: steps.json of job/train.py, and to each phase `cpu_of_quota`: the part of their cores that each group's
    hosts used, and `cpu_ms`: the CPU time of all hosts in a step.

    Args:
        workload: the machine's types and the scale.
        case: graph, feed, data hosts.
        batch: images a step.
        floors_ms: of the accelerator.
        work: "sleep", "copy" or both with a comma.
        steps: measured in each phase.
        frames: the channel of workload D.
        output: the run's folder.
        burn_ms: CPU time that the script takes in each step.
        local_workers: of `distribute()`, beside the training.
        has_limits: the hosts have networks, quotas and links of their own; else they are plain processes of this machine.
    """
    groups = [Group("dnn_group", workload.train_type, 1)]
    if case.data_hosts:
        groups.insert(0, Group("data_group", workload.data_type, case.data_hosts))
    # one image of the model stands for so many of the real job, and its bytes for as many bytes
    images_scale = workload.global_batch / batch if workload.global_batch else workload.scale
    result = run(
        Job(
            groups=groups,
            source_dir=_SOURCE,
            entry_point="launcher_ours.py" if case.feed == "ours" else "launcher_stock.py",
            channels={"frames": frames},
            hyperparameters={
                "graph": case.graph,
                "feed": case.feed,
                "batch": batch,
                "floors": ",".join(f"{floor:g}" for floor in floors_ms),
                "work": work,
                "steps": steps,
                "burn-ms": burn_ms,
                **({"local-workers": local_workers} if case.feed == "ours" else {}),
            },
        ),
        output=output,
        timeout_s=_TIMEOUT_S,
        **({"isolation": "namespace", "scale": workload.scale, "link_scale": images_scale} if has_limits else _NO_LIMITS),
    )
    _require_success(result)
    trainer = next(host.name for host in result.hosts if host.group == "dnn_group")
    report: dict[str, Any] = _report(output, trainer)
    cores = {
        kind: facts.vcpu / workload.scale for kind in (workload.train_type, workload.data_type) if (facts := instance(kind))
    }
    for phase in report["phases"]:
        shares: dict[str, list[float]] = {}
        phase["cpu_ms"] = 0.0
        for host in result.hosts:
            used = result.timeline.cpu_s(host.name, phase["began"], phase["ended"]) / (phase["ended"] - phase["began"])
            phase["cpu_ms"] += used * phase["step_ms"]
            shares.setdefault(host.group, []).append(used / cores[host.instance_type])
        phase["cpu_of_quota"] = {group: fmean(each) for group, each in shares.items()}
    return report


def profile(workload: Workload, graph: str, *, batch: int, frames: Path, output: Path, has_limits: bool = True) -> Profile:
    """What `hetero-tfdata measure` finds of a graph on the workload's emulated training host, or in a plain process."""
    result = run(
        Job(
            groups=[Group("dnn_group", workload.train_type, 1)],
            source_dir=_SOURCE,
            entry_point="profile_graph.py",
            channels={"frames": frames},
            hyperparameters={"graph": graph, "batch": batch},
        ),
        output=output,
        timeout_s=_TIMEOUT_S,
        **({"isolation": "namespace", "scale": workload.scale} if has_limits else _NO_LIMITS),
    )
    _require_success(result)
    return Profile.read(output / result.hosts[0].name / "opt/ml/output/data/profile.json")


def _require_success(result: Result) -> None:
    for host in result.hosts:
        if host.exit_code:
            reason = (host.failure or "no reason given").strip().splitlines()[0]
            log = result.output / f"{host.name}.log"
            raise JobFailed(f"{host.name} of {host.group} ended with {host.exit_code}: {reason}; see {log}")


def _report(output: Path, trainer: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / trainer / "opt/ml/output/data/steps.json").read_text())
    return found
