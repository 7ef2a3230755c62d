"""What plan predicts, against what then happens: measured graphs, a model's arithmetic, the emulator.

    make bench-plan
    python benchmarks/plan.py --only driving --rounds 3

For each graph: `measure` runs it on the emulated training host, so that a vCPU-millisecond is one of that host's; the model
predicts the step with 0, 1, 2 and 3 data hosts; the predictions are printed before the emulator runs the same clusters. Three
cases lie outside what planner and scale model share: plain processes on this machine's own CPUs, without quotas; a training
script that takes CPU time itself; and links that are full. "cheapest" has the planner search for the cheapest cluster of the
published job, and runs it beside the published cluster.

A virtual machine shares its cores with neighbours: the same image can take half as much CPU time again ten seconds later. So
graphs and steps are measured for 20 s and more, and there are two errors. The first is that of the prediction as it was
printed. The second is the model's own: where CPUs are the bottleneck, the same prediction with images as dear as the hosts'
CPU accounts show them to have been during the run.

No GPU is used: the accelerator is a sleep. Prints predicted against measured, writes out/bench/plan.json, in which experiments
that are not run stay. As root, or where user namespaces are allowed. About 20 minutes a round on two CPUs.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from augmentation import photographs, report
from clustering import jobs
from clustering.cases import PRICES, WORKLOADS, Case, Workload

from hetero_tfdata.cluster.instances import Instance
from hetero_tfdata.plan.model import Assumptions, Job, Prediction, predict
from hetero_tfdata.plan.options import Option, best, data_types, options
from hetero_tfdata.plan.prices import PriceList, described
from hetero_tfdata.plan.profile import LEAST_BUSY, Profile
from hetero_tfdata.service.cpus import usable_cpus

CACHE = photographs.ROOT / ".cache/bench"
OUT = photographs.ROOT / "out/bench"
FRAMES = CACHE / "photographs" / photographs.FRAMES
PHASE_S = 20.0
HOMOGENEOUS_MS = 192.0
_A, _D = (next(one for one in WORKLOADS if one.name == name) for name in ("cifar", "driving"))
_MODELS = {
    "a": _A,
    "d": _D,
    # links divided by the scale, as CPUs are, which makes them as narrow for these images as this machine's cores are fast
    "links": replace(_A, global_batch=0),
}


@dataclass(frozen=True)
class Experiment:
    """Clusters of one graph.

    Attributes:
        name: for --only.
        model: of _MODELS.
        graph: of clustering/job/graphs.py.
        data_hosts: that are tried.
        floors_ms: of the accelerator; empty: what 160 of a p4d's vCPUs would keep busy.
        batch: images a step; 0: so many that the training host alone needs 192 ms.
        burn: of a step's CPU time, the part that the training script takes besides.
        local_workers: the training host makes samples too.
    """

    name: str
    model: str
    graph: str
    data_hosts: tuple[int, ...] = (0, 1, 2, 3)
    floors_ms: tuple[float, ...] = (64.0, 86.0)
    batch: int = 0
    burn: float = 0.0
    local_workers: bool = True


EXPERIMENTS = (
    Experiment("published", "a", "cifar_published"),
    Experiment("ours", "a", "cifar_ours", batch=82),
    Experiment("driving", "d", "driving_ours", floors_ms=(), batch=8),
    Experiment("busy-script", "a", "cifar_published", (0, 2), (64.0,), burn=0.3),
    Experiment("full-link", "links", "heavy_bytes", (1, 2), (20.0,), batch=16, local_workers=False),
)
NAMES = (*(one.name for one in EXPERIMENTS), "cheapest", "processes")
PUBLISHED = ("ml.c5.18xlarge", 2)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="plan.py", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=NAMES, help="of the experiments, this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="measurements, predictions and runs (%(default)s)")
    found = parser.parse_args(argv)
    if found.rounds < 1:
        parser.error("--rounds: expected at least 1")
    found.only = tuple(dict.fromkeys(found.only or NAMES))
    return found


def say(line: str) -> None:
    """A line of progress, on standard error."""
    print(f"bench-plan: {line}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Measured:
    """A graph's profile, and the images of a step of the scale model."""

    profile: Profile
    batch: int

    @property
    def cpu_time_ms(self) -> float:
        """CPU time of an image while it was measured, without what the graph left idle."""
        return self.profile.cpu_ms_per_sample * min(1.0, max(LEAST_BUSY, self.profile.cpus_busy))

    def job(self, workload: Workload, floor_ms: float, slower: float = 1.0, burn_ms: float = 0.0) -> Job:
        """The job that the scale model stands for: the real one's images, of which each costs so much that steps are equal."""
        images_scale = self.images_scale(workload)
        cpu_ms = self.profile.cpu_ms_per_sample * slower * workload.scale / images_scale
        images = round(self.batch * images_scale)
        return Job(images, cpu_ms, floor_ms, self.profile.wire_bytes_per_sample, burn_ms * workload.scale)

    def assumptions(self, workload: Workload, *, local_workers: bool = True) -> Assumptions:
        """What a million bytes cost one of its vCPUs: as much more as its images are more."""
        usual, factor = Assumptions(), workload.scale / self.images_scale(workload)
        return replace(
            usual,
            local_workers=local_workers,
            send_ms_per_mb=usual.send_ms_per_mb * factor,
            receive_ms_per_mb=usual.receive_ms_per_mb * factor,
        )

    def images_scale(self, workload: Workload) -> float:
        """Images of the real job that one image of the model stands for; its link is narrower by that."""
        return workload.global_batch / self.batch if workload.global_batch else workload.scale


def row(
    name: str,
    cluster: str,
    predicted: Callable[[float], Prediction],
    phase: dict[str, Any],
    graph: Measured,
    burn_ms: float = 0.0,
) -> dict[str, Any]:
    """A prediction beside what came of it; `predicted` takes what an image cost during the run, against the profile."""
    said, measured_ms, slower = predicted(1.0), phase["step_ms"], 1.0
    if said.bottleneck == "cpu":  # else their part of the hosts' CPU time can't be told from what batches take on their way
        slower = (phase["cpu_ms"] - burn_ms) / graph.batch / graph.cpu_time_ms
    say(f"{name}: {cluster}: predicted {said.step_ms:.1f} ms, measured {measured_ms:.1f}, images {slower - 1:+.0%} dearer then")
    return {
        "experiment": name,
        "cluster": cluster,
        "floor_ms": phase["floor_ms"],
        "predicted_ms": said.step_ms,
        "bottleneck": said.bottleneck,
        "measured_ms": measured_ms,
        "error": measured_ms / said.step_ms - 1,
        "slower": slower,
        "error_of_model": measured_ms / predicted(slower).step_ms - 1,
    }


def profiled(experiment: Experiment, workload: Workload) -> Measured:
    """What `measure` finds of the graph on the emulated training host."""
    say(f"{experiment.name}: measuring the graph on the emulated {workload.train_type}")
    # the first batch serves to find the one with which the training host alone needs the published step
    batch = experiment.batch or 82
    output = CACHE / "plan" / experiment.name / "measure"
    profile = jobs.profile(workload, experiment.graph, batch=batch, frames=FRAMES, output=output)
    if not experiment.batch:
        cores = _vcpu(described(workload.train_type)) / workload.scale
        batch = max(1, round(HOMOGENEOUS_MS * cores / profile.cpu_ms_per_sample))
    say(f"{experiment.name}: {profile.cpu_ms_per_sample:.4g} CPU-ms and {profile.wire_bytes_per_sample:,.0f} bytes a sample")
    return Measured(profile, batch)


def compared(experiment: Experiment) -> tuple[Profile, list[dict[str, Any]]]:
    """Measures, predicts, runs."""
    workload = _MODELS[experiment.model]
    train, data = described(workload.train_type), described(workload.data_type)
    place = CACHE / "plan" / experiment.name
    graph = profiled(experiment, workload)
    profile, batch = graph.profile, graph.batch
    assumptions = graph.assumptions(workload, local_workers=experiment.local_workers)
    burn_ms = experiment.burn * batch * profile.cpu_ms_per_sample
    floors_ms = experiment.floors_ms or (round(batch * workload.scale * profile.cpu_ms_per_sample / 160, 1),)

    def predicted(count: int, floor_ms: float, slower: float) -> Prediction:
        job = graph.job(workload, floor_ms, slower, burn_ms)
        return predict(job, train, 1, data, count, assumptions)

    steps = {}
    for count in experiment.data_hosts:
        for floor_ms in floors_ms:
            step_ms = predicted(count, floor_ms, 1.0).step_ms
            steps[count] = max(steps.get(count, 0), steps_of(step_ms))
            say(f"{experiment.name}: predicted {step_ms:.1f} ms with {count} data hosts, accelerator {floor_ms:g} ms")
    rows = []
    for count in experiment.data_hosts:
        measured = jobs.measure(
            workload,
            Case(experiment.graph, "ours" if count else "plain", count),
            batch=batch,
            floors_ms=floors_ms,
            work="sleep",
            steps=steps[count],
            frames=FRAMES,
            output=place / f"{count}",
            burn_ms=burn_ms,
            local_workers=1 if experiment.local_workers else 0,
        )
        cluster = f"1 {train.name}" + (f" + {count} {data.name}" if count else "")
        for phase in measured["phases"]:
            at_cost = partial(predicted, count, phase["floor_ms"])
            rows.append(row(experiment.name, cluster, at_cost, phase, graph, burn_ms))
    return profile, rows


def cheapest() -> tuple[Profile, list[dict[str, Any]], list[dict[str, Any]]]:
    """Searches for the cheapest clusters of the published job, runs them and the published one: profile, steps, bills."""
    experiment, workload = replace(EXPERIMENTS[0], name="cheapest"), _MODELS["a"]
    graph = profiled(experiment, workload)
    profile, batch = graph.profile, graph.batch
    train = described(workload.train_type)
    assumptions = graph.assumptions(workload)

    wanted: dict[tuple[str, int], set[float]] = {PUBLISHED: set(experiment.floors_ms)}
    searched = []
    for floor_ms in experiment.floors_ms:
        job = graph.job(workload, floor_ms)
        for prices in PRICES:
            bill = PriceList.of(prices)
            found = [one for data in data_types(bill) for one in options(job, train, 1, data, bill, None, assumptions)]
            published = options(job, train, 1, described(PUBLISHED[0]), bill, PUBLISHED[1], assumptions)[-1]
            for chosen in (published, best(found)):
                wanted.setdefault(_data_group(chosen), set()).add(floor_ms)
                searched.append((prices, floor_ms, chosen))
            say(f"cheapest: {prices}, accelerator {floor_ms:g} ms: {chosen.name}, {chosen.prediction.step_ms:.1f} ms predicted")
    rows, measured = [], {}
    for (data, count), floors in wanted.items():
        run = jobs.measure(
            replace(workload, data_type=data or workload.data_type),
            Case(experiment.graph, "ours" if count else "plain", count),
            batch=batch,
            floors_ms=sorted(floors),
            work="sleep",
            steps=steps_of(min(floors)),
            frames=FRAMES,
            output=CACHE / "plan/cheapest" / f"{count}-{data}",
        )
        for phase in run["phases"]:
            floor_ms = phase["floor_ms"]
            measured[(data, count), floor_ms] = phase["step_ms"]
            same = next(one for _, at_ms, one in searched if _data_group(one) == (data, count) and at_ms == floor_ms)

            def at_cost(slower: float, floor_ms: float = floor_ms, same: Option = same, count: int = count) -> Prediction:
                return predict(graph.job(workload, floor_ms, slower), train, 1, same.data, count, assumptions)

            rows.append(row("cheapest", same.name, at_cost, phase, graph))
    bills = [
        {
            "prices": prices,
            "floor_ms": floor_ms,
            "cluster": chosen.name,
            "usd_per_hour": chosen.usd_per_hour,
            "predicted_usd_per_1000_steps": chosen.usd_per_1000_steps,
            "measured_usd_per_1000_steps": chosen.usd_per_hour * measured[_data_group(chosen), floor_ms] / 3600,
        }
        for prices, floor_ms, chosen in searched
    ]
    return profile, rows, bills


def _data_group(option: Option) -> tuple[str, int]:
    count = option.prediction.data_instances
    return (option.data.name if option.data and count else "", count)


def plain_processes() -> list[dict[str, Any]]:
    """A worker's process and a training process on this machine's own CPUs, which they share."""
    workload, name, place = _MODELS["a"], "cifar_published", CACHE / "plan/processes"
    cpus = usable_cpus()
    say(f"processes: measuring the graph on {cpus} CPUs")
    profile = jobs.profile(workload, name, batch=400, frames=FRAMES, output=place / "measure", has_limits=False)
    here = Instance("this machine", cpus, None, 0, None, None)
    graph = Measured(profile, max(1, round(HOMOGENEOUS_MS * cpus / profile.cpu_ms_per_sample)))
    assumed = Assumptions()
    crossing_ms = profile.wire_bytes_per_sample / 1e6 * (assumed.send_ms_per_mb + assumed.receive_ms_per_mb)

    def predicted(count: int, slower: float) -> Prediction:
        sample_ms = (profile.cpu_ms_per_sample + count * crossing_ms) * slower
        return predict(Job(graph.batch, sample_ms, 64.0, profile.wire_bytes_per_sample), here, 1, None, 0)

    rows = []
    for count in (0, 1):
        say(f"processes: predicted {predicted(count, 1.0).step_ms:.1f} ms {'beside a worker' if count else 'alone'}")
        measured = jobs.measure(
            workload,
            Case(name, "ours" if count else "plain", count),
            batch=graph.batch,
            floors_ms=(64.0,),
            work="sleep",
            steps=steps_of(HOMOGENEOUS_MS),
            frames=FRAMES,
            output=place / f"{count}",
            local_workers=0,
            has_limits=False,
        )
        cluster = f"{cpus} CPUs, {'a worker and a trainer' if count else 'the trainer alone'}"
        rows.append(row("processes", cluster, partial(predicted, count), measured["phases"][0], graph))
    return rows


def steps_of(step_ms: float) -> int:
    """How many steps take a phase's time."""
    return max(60, math.ceil(PHASE_S * 1e3 / step_ms))


def _vcpu(instance: Instance) -> int:
    assert instance.vcpu is not None
    return instance.vcpu


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, predicts, runs, prints, writes; 0."""
    chosen = parse(argv)
    arguments = sys.argv[1:] if argv is None else list(argv)
    command = shlex.join(["python", "benchmarks/plan.py", *arguments]) if arguments else "make bench-plan"
    photographs.make_frames(FRAMES, 64)
    started = time.monotonic()
    rows: list[dict[str, Any]] = []
    profiles: list[dict[str, Any]] = []
    bills: list[dict[str, Any]] = []
    for number in range(chosen.rounds):
        say(f"round {number + 1} of {chosen.rounds}")
        for experiment in EXPERIMENTS:
            if experiment.name in chosen.only:
                profile, found = compared(experiment)
                profiles.append({"experiment": experiment.name, **asdict(profile)})
                rows += found
        if "cheapest" in chosen.only:
            profile, found, billed = cheapest()
            profiles.append({"experiment": "cheapest", **asdict(profile)})
            rows += found
            bills += billed
        if "processes" in chosen.only:
            rows += plain_processes()
    file = OUT / "plan.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    for name, found in (("rows", rows), ("profiles", profiles), ("bills", bills)):
        found[:0] = [one for one in before.get(name, ()) if one.get("experiment", "cheapest") not in chosen.only]
    lines = []
    for key in dict.fromkeys((one["experiment"], one["cluster"], one["floor_ms"]) for one in rows):
        same = [one for one in rows if (one["experiment"], one["cluster"], one["floor_ms"]) == key]
        figures = ("predicted_ms", "measured_ms", "error", "slower", "error_of_model")
        predicted, measured, error, slower, own_error = (statistics.median(one[name] for one in same) for name in figures)
        cells = [f"{predicted:,.1f}", f"{measured:,.1f}", f"{error:+.0%}", f"{slower - 1:+.0%}", f"{own_error:+.0%}"]
        cells.append(same[0]["bottleneck"])
        lines.append([*key[:2], f"{key[2]:g}", *cells])
    headings = ["experiment", "cluster", "accelerator, ms", "predicted, ms", "measured, ms", "error", "images dearer by"]
    print(report.table([*headings, "the model's own error", "predicted bottleneck"], lines))
    every, own = ([abs(one[name]) for one in rows] for name in ("error", "error_of_model"))
    print(
        f"\nerror: median {statistics.median(every):.1%}, largest {max(every):.1%}, of {len(every)} runs; the model's own: "
        f"median {statistics.median(own):.1%}, largest {max(own):.1%}; no GPU was used"
    )
    if bills:
        print(f"\n{_bill_table(bills)}")
    result = {
        "benchmark": "plan",
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "machine": report.machine(),
        "accelerator": "a sleep; no GPU is used",
        "took_s": round(time.monotonic() - started),
        "median_error": statistics.median(every),
        "median_error_of_model": statistics.median(own),
        "rows": rows,
        "bills": bills,
        "profiles": profiles,
    }
    OUT.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {OUT.relative_to(photographs.ROOT)}/plan.json")
    return 0


def _bill_table(bills: Sequence[dict[str, Any]]) -> str:
    """What 1,000 steps cost on the published cluster and on the one that the planner found."""
    lines = []
    for key in dict.fromkeys((one["prices"], one["floor_ms"], one["cluster"]) for one in bills):
        same = [one for one in bills if (one["prices"], one["floor_ms"], one["cluster"]) == key]
        figures = [
            statistics.median(one[name] for one in same)
            for name in ("usd_per_hour", "predicted_usd_per_1000_steps", "measured_usd_per_1000_steps")
        ]
        lines.append([key[0], f"{key[1]:g}", key[2], *(f"{figure:.3f}" for figure in figures)])
    headings = ["prices", "accelerator, ms", "cluster", "$ per hour", "$ per 1,000 steps: predicted", "measured"]
    return str(report.table(headings, lines))


if __name__ == "__main__":
    sys.exit(main())
