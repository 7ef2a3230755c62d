"""What a job waits for: its CPUs, its accelerators, its links, or none of them.

The published way (AWS, 2022) is to look at CloudWatch: CPUs at their limit while GPUs are not mean that the CPUs are the
bottleneck. Where the steps were timed, how long they waited for their batches decides first: a GPU that is busy for 70 % of a
minute may do so because nothing more is asked of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hetero_tfdata.plan.observed import HostLoad, Observed

__all__ = ["Diagnosis", "diagnose"]

# CloudWatch averages a minute, in which steps begin and end: nothing is at 100 % there.
_BUSY = 0.85
_FULL = 0.9
_WAITS = 0.05


@dataclass(frozen=True)
class Diagnosis:
    """The answer.

    Attributes:
        verdict: "cpu-bound", "gpu-bound", "network-bound", "neither", or, where nothing tells by what, "input-bound".
        why: the figures it follows from, in sentences.
        warnings: memory and disks that are nearly full.
        command: the next one to run.
        needs: what has to be filled in there, in words; empty: nothing.
    """

    verdict: str
    why: tuple[str, ...]
    warnings: tuple[str, ...]
    command: str
    needs: tuple[str, ...]

    def as_json(self, observed: Observed) -> dict[str, Any]:
        """For programs; parts from 0 to 1, times in ms."""
        figures = ("cpu", "accelerator", "accelerator_memory", "memory", "disk", "link")
        hosts = [
            {"host": one.host, "group": one.group, "instance_type": one.instance_type}
            | {name: getattr(one, name) for name in figures}
            for one in observed.hosts
        ]
        steps = observed.steps
        return {
            "job": observed.job,
            "source": observed.source,
            "verdict": self.verdict,
            "why": list(self.why),
            "warnings": list(self.warnings),
            "hosts": hosts,
            "steps": None if steps is None else {"step_ms": steps.step_ms, "input_wait_ms": steps.input_wait_ms},
            "notes": list(observed.notes),
            "next": self.command,
            "next_needs": list(self.needs),
        }


def diagnose(observed: Observed) -> Diagnosis:
    """Says what the job waits for.

    A host whose CPUs, accelerators or link work for 85 % of the time is taken to be at its limit, as CloudWatch's minutes hold
    beginnings and ends too; a step that waits for less than 5 % of its time is not input-bound.
    """
    training, feeding = _parts(observed.hosts)
    why: list[str] = []
    verdict = _of_steps(observed, why)
    if verdict is None:
        verdict = _of_accelerators(training, why, timed=bool(why))
    if verdict is None:
        verdict = _of_input(training, feeding, why)
    command, needs = _next(observed, training)
    return Diagnosis(verdict, tuple(why), tuple(_warnings(observed.hosts)), command, needs)


def _parts(hosts: Sequence[HostLoad]) -> tuple[list[HostLoad], list[HostLoad]]:
    """Hosts that train, and hosts that feed them. Without accelerators all train."""
    training = [one for one in hosts if one.has_accelerators] or list(hosts)
    return training, [one for one in hosts if one not in training]


def _of_steps(observed: Observed, why: list[str]) -> str | None:
    steps = observed.steps
    if steps is None or steps.input_wait_ms is None:
        return None
    part = steps.input_wait_ms / steps.step_ms if steps.step_ms else 0.0
    why.append(
        f"a step takes {steps.step_ms:,.1f} ms, and for {steps.input_wait_ms:,.1f} of them ({part:.0%}) its batch is missing"
    )
    if part < _WAITS:
        why.append("the input keeps up: data hosts would change nothing")
        return "gpu-bound"
    return None


def _of_accelerators(training: Sequence[HostLoad], why: list[str], timed: bool) -> str | None:
    busy = _mean([one.accelerator for one in training])
    if busy is None:
        why += [] if timed else ["neither GPUs nor steps were measured"]
        return None
    why.append(f"GPUs of {_named(training)}: {busy:.0%} busy")
    return "gpu-bound" if busy >= _BUSY and not timed else None


def _of_input(training: Sequence[HostLoad], feeding: Sequence[HostLoad], why: list[str]) -> str:
    links = [one for one in (*training, *feeding) if (one.link or 0.0) >= _BUSY]
    makers = feeding or training
    cpu = _mean([one.cpu for one in makers])
    if feeding:
        own = _mean([one.cpu for one in training])
        why += [] if own is None else [f"CPUs of {_named(training)}: {own:.0%} busy"]
    why += [] if cpu is None else [f"CPUs of {_named(makers)}: {cpu:.0%} busy"]
    if cpu is None and not links and all(one.link is None for one in (*training, *feeding)):
        why.append("what the batches wait for can't be told: neither CPUs nor links were measured")
        return "input-bound"
    if links:
        why.append(f"links of {_named(links)}: {_mean([one.link for one in links]):.0%} of their rate")
        return "network-bound"
    if cpu is not None and cpu >= _BUSY:
        return "cpu-bound"
    if feeding:
        why.append(
            "the links were not measured: CloudWatch has no figures of them; see whether the data hosts' batches fill them"
            if all(one.link is None for one in feeding)
            else "no link is full"
        )
    why.append(
        "so the input waits for something else: files (S3, small reads), too few parallel calls (num_parallel_calls, "
        "prefetch), one slow host, or a script that is busy between its steps; `hetero-tfdata measure` shows the graph's stages"
    )
    return "neither"


def _warnings(hosts: Sequence[HostLoad]) -> list[str]:
    names = {"memory": "memory", "accelerator_memory": "GPU memory", "disk": "disk"}
    return [
        f"{one.host}: its {word} is {value:.0%} full"
        for one in hosts
        for figure, word in names.items()
        if (value := getattr(one, figure)) is not None and value >= _FULL
    ]


def _next(observed: Observed, training: Sequence[HostLoad]) -> tuple[str, tuple[str, ...]]:
    """The plan's command, with what is known, and what has to be filled in."""
    steps, needs = observed.steps, []
    instance_type = training[0].instance_type if training else None
    batch = steps.global_batch_size if steps else None
    vcpus = [(one.vcpus or (one.instance.vcpu if one.instance else None), one.cpu) for one in observed.hosts]
    given = {
        "train-instance": instance_type,
        "train-count": str(len(training)) if len(training) > 1 else None,
        "global-batch-size": None,
        "cpu-ms-per-sample": None,
        "accelerator-ms-per-step": None,
        "wire-bytes-per-sample": None,
    }
    if steps is not None and batch:
        given["global-batch-size"] = str(round(batch * _scale(training)))
        if all(count is not None and busy is not None for count, busy in vcpus):
            used = sum(count * busy for count, busy in vcpus if count is not None and busy is not None)
            given["cpu-ms-per-sample"] = f"{steps.step_ms * used / batch:.4g}"
        if steps.input_wait_ms is not None:
            given["accelerator-ms-per-step"] = f"{max(0.1, steps.step_ms - steps.input_wait_ms):.4g}"
    asked = {
        "train-instance": ("TYPE", "TYPE: of the training hosts"),
        "global-batch-size": ("B", "B: samples of a step, over all ranks"),
        "cpu-ms-per-sample": ("C", "C: vCPU-milliseconds of a sample (step x vCPUs / batch where the CPUs decide it)"),
        "accelerator-ms-per-step": ("A", "A: a step's milliseconds when its batch is there (`measure --step`)"),
        "wire-bytes-per-sample": ("W", "W: bytes of a sample on the network (`measure`)"),
    }
    words = ["hetero-tfdata", "plan"]
    for name, value in given.items():
        if value is not None:
            words += [f"--{name}", value]
        elif name in asked:
            words += [f"--{name}", asked[name][0]]
            needs.append(asked[name][1])
    return " ".join([*words, "--search"]), tuple(needs)


def _scale(training: Sequence[HostLoad]) -> float:
    """How much smaller an emulated host is than its type."""
    for one in training:
        if one.vcpus and one.instance and one.instance.vcpu:
            return one.instance.vcpu / one.vcpus
    return 1.0


def _named(hosts: Sequence[HostLoad]) -> str:
    return ", ".join(f"{one.host} ({one.group})" if one.group else one.host for one in hosts)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
