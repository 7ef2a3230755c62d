"""The published comparison as a scale model: what a heterogeneous cluster gains, measured on an emulated one.

    make bench-cluster
    python benchmarks/cluster.py --only driving --rounds 3
    python benchmarks/cluster.py --only cifar --pairs 4

--pairs measures one thing alone: by how much the published graph's step falls with the published data hosts. A machine that
others use too is not as fast from minute to minute, so homogeneous and heterogeneous jobs take turns, each heterogeneous one
calibrated by the homogeneous one before it and compared with those before and after it.

No GPU is used: the accelerator is a sleep of the length that WORKLOADS.md gives for it, at both floors, alone and after the
client's real work of copying and casting the batch. Everything else is real: hosts with network, CPU quota (vCPUs / scale) and
link rate, tf.data service, images. One client process plays all ranks of the training host, because eight idle TensorFlow
processes would use up a good part of a scaled host. The images of a step follow from the published homogeneous step, which
the published graph has to reach; link rates are divided by (real images / images of the model) a step, so that a link is as
busy as the real one.

Writes out/bench/cluster.json and cluster.png, in which the figures of workloads that are not run stay. As root, or where user
namespaces are allowed. About half an hour a round on two CPUs.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from augmentation import photographs, report
from clustering import tables
from clustering.cases import WORKLOADS, Case, Workload
from clustering.jobs import measure

CACHE = photographs.ROOT / ".cache/bench"
OUT = photographs.ROOT / "out/bench"
WORK = ("sleep", "copy")
FRAMES = 64
_TRIES, _NEAR = 4, 0.04  # of a calibration: how often, and how near to the published step
_FIRST_GUESS = {"driving": 8, "cifar": 200, "mnist": 1000}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    names = [workload.name for workload in WORKLOADS]
    parser = argparse.ArgumentParser(prog="cluster.py", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=names, help="of the workloads, this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="runs of each case (%(default)s)")
    parser.add_argument("--steps", type=int, default=60, metavar="N", help="measured in each phase of a run (%(default)s)")
    parser.add_argument("--pairs", type=int, default=0, metavar="N", help="only the published comparison, N times in turns")
    options = parser.parse_args(argv)
    if options.rounds < 1 or options.steps < 10:
        parser.error("--rounds, --steps: expected at least 1 round of at least 10 steps")
    if options.pairs:
        names = [workload.name for workload in WORKLOADS if workload.published is not None]
        if not set(options.only or names) <= set(names):
            parser.error(f"--pairs: nothing is published but of {', '.join(names)}")
    options.only = tuple(dict.fromkeys(options.only or names))
    return options


def say(line: str) -> None:
    """A line of progress, on standard error."""
    print(f"bench-cluster: {line}", file=sys.stderr, flush=True)


class Model:
    """A workload at its scale: calibrated, then measured."""

    def __init__(self, workload: Workload, options: argparse.Namespace) -> None:
        self.workload, self.steps, self.rounds = workload, options.steps, options.rounds
        self.batch = _FIRST_GUESS[workload.name]
        self.floors_ms = workload.floors_ms

    def calibrate(self) -> dict[str, float]:
        """Sets images a step, or the accelerator's time, from the homogeneous job's CPU-bound step: a median of the rounds."""
        case = Case(self.workload.calibration, "plain", 0)
        # beside the accelerator that the published job had: without one the same job is a tenth slower
        floors_ms = self.workload.floors_ms or (0.0,)
        published = self.workload.published
        for _ in range(_TRIES):
            runs = [self._run(case, floors_ms=floors_ms, work="sleep") for _ in range(self.rounds)]
            step_ms = statistics.median(phase["step_ms"] for run in runs for phase in run.values())
            per_image_ms = step_ms / self.batch
            if published is None:
                break
            # the first guess may be far off, and a machine that others use is not the same for long
            if abs(step_ms / published.homogeneous_ms - 1) <= _NEAR:
                break
            self.batch = round(published.homogeneous_ms / per_image_ms)
        if self.workload.vcpus is not None:
            # the training host alone reaches only its share of the vCPUs that the accelerators ask for
            share = self._vcpus() / self.workload.vcpus
            self.floors_ms = (round(share * step_ms, 1),)
        return {"ms_per_image_homogeneous": per_image_ms, "images_per_step": self.batch, "floors_ms": list(self.floors_ms)}

    def measure(self) -> list[dict[tuple[float, str], dict[str, Any]]]:
        """For each case the medians over the rounds; rounds go through all cases in turn."""
        rounds: list[list[dict[tuple[float, str], dict[str, Any]]]] = []
        for number in range(self.rounds):
            cases = list(enumerate(self.workload.cases))
            turn = {}
            for place, case in cases if number % 2 == 0 else reversed(cases):
                say(f"{self.workload.name}: round {number + 1} of {self.rounds}, {tables.label(self.workload, case)}")
                turn[place] = self._run(case, floors_ms=self.floors_ms, work=",".join(WORK))
            rounds.append([turn[place] for place, _ in cases])
        return [_medians([one[place] for one in rounds]) for place in range(len(self.workload.cases))]

    def pairs(self, count: int) -> list[dict[str, Any]]:
        """The published graph on the training host alone and with the published data hosts, in turns: the ratios of the steps,
        homogeneous over heterogeneous. Each floor by itself: a job is faster in the second phase of its run than in the first.
        """
        return [pair for floor_ms in self.floors_ms for pair in self._pairs(count, floor_ms)]

    def _pairs(self, count: int, floor_ms: float) -> list[dict[str, Any]]:
        published = self.workload.published
        assert published is not None
        alone = Case(self.workload.calibration, "plain", 0)
        beside = Case(self.workload.calibration, "published", published.data_hosts)

        def step_ms(case: Case) -> float:
            return float(self._run(case, floors_ms=(floor_ms,), work="sleep")[floor_ms, "sleep"]["step_ms"])

        before = 0.0
        for _ in range(2):  # the first guess may be far off
            before = step_ms(alone) / self.batch
            self.batch = round(published.homogeneous_ms / before)
        found = []
        for number in range(count):
            beside_ms = step_ms(beside)
            after = step_ms(alone) / self.batch
            alone_ms = (before + after) / 2 * self.batch
            found.append(
                {
                    "floor_ms": floor_ms,
                    "homogeneous_ms": alone_ms,
                    "heterogeneous_ms": beside_ms,
                    "ratio": alone_ms / beside_ms,
                    "images_per_step": self.batch,
                }
            )
            say(
                f"{self.workload.name}: pair {number + 1} of {count}, accelerator {floor_ms:g} ms, {self.batch} images: "
                f"{alone_ms:.1f} and {beside_ms:.1f} ms a step, ratio {alone_ms / beside_ms:.2f}"
            )
            before = after
            self.batch = round(published.homogeneous_ms / before)
        return found

    def _run(self, case: Case, *, floors_ms: Sequence[float], work: str) -> dict[tuple[float, str], dict[str, Any]]:
        found = measure(
            self.workload,
            case,
            batch=self.batch,
            floors_ms=floors_ms,
            work=work,
            steps=self.steps,
            frames=CACHE / "photographs" / photographs.FRAMES,
            output=CACHE / "cluster" / f"{self.workload.name}-{case.graph}-{case.feed}-{case.data_hosts}",
        )
        return {(phase["floor_ms"], phase["work"]): phase for phase in found["phases"]}

    def _vcpus(self) -> int:
        from hetero_tfdata.cluster.instances import instance

        facts = instance(self.workload.train_type)
        assert facts is not None
        assert facts.vcpu is not None
        return facts.vcpu


def _medians(runs: Sequence[dict[tuple[float, str], dict[str, Any]]]) -> dict[tuple[float, str], dict[str, Any]]:
    merged = {}
    for phase, first in runs[0].items():
        figures = {name: statistics.median(run[phase][name] for run in runs) for name in ("step_ms", "input_wait_ms")}
        groups = first.get("cpu_of_quota", {})
        cores = {group: statistics.median(run[phase]["cpu_of_quota"][group] for run in runs) for group in groups}
        merged[phase] = {**figures, "cpu_of_quota": cores, "step_ms_rounds": [run[phase]["step_ms"] for run in runs]}
    return merged


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, writes. Its exit code."""
    options = parse(argv)
    arguments = sys.argv[1:] if argv is None else list(argv)
    command = shlex.join(["python", "benchmarks/cluster.py", *arguments]) if arguments else "make bench-cluster"
    photographs.make_frames(CACHE / "photographs" / photographs.FRAMES, FRAMES)
    for workload in WORKLOADS:
        if workload.name in options.only and options.pairs:
            compare_pairs(workload, options)
        elif workload.name in options.only:
            started = time.monotonic()
            found = compare(workload, options)
            about = {"command": command, "date": time.strftime("%Y-%m-%d"), "machine": report.machine()}
            write(workload.name, {**about, "rounds": options.rounds, "took_s": round(time.monotonic() - started), **found})
    print(f"\nwritten to {OUT.relative_to(photographs.ROOT)}/cluster.json and cluster.png")
    return 0


def compare_pairs(workload: Workload, options: argparse.Namespace) -> None:
    """The published ratio, printed and put beside the workload's other figures."""
    assert workload.published is not None
    found = Model(workload, options).pairs(options.pairs)
    published = workload.published.homogeneous_ms / workload.published.heterogeneous_ms
    for floor_ms in workload.floors_ms:
        ratios = [one["ratio"] for one in found if one["floor_ms"] == floor_ms]
        print(
            f"{workload.title}, accelerator {floor_ms:g} ms: homogeneous / heterogeneous step, published graph and service: "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} pairs; published: "
            f"{published:.2f})"
        )
    file = OUT / "cluster.json"
    before = json.loads(file.read_text())["workloads"].get(workload.name, {}) if file.exists() else {}
    write(workload.name, {**before, "pairs": found, "pairs_date": time.strftime("%Y-%m-%d")})


def compare(workload: Workload, options: argparse.Namespace) -> dict[str, Any]:
    """A workload's tables, printed, and what they show."""
    model = Model(workload, options)
    say(f"{workload.name}: calibrating")
    calibration = model.calibrate()
    say(f"{workload.name}: {calibration}")
    measured = model.measure()
    parts = []
    for floor_ms in model.floors_ms:
        for work in WORK:
            found = tables.rows(workload, measured, floor_ms, work)
            parts.append({"floor_ms": floor_ms, "work": work, "rows": found})
            how = "pure sleep" if work == "sleep" else "after copying and casting the batch"
            print(f"\n{workload.title}. Emulated accelerator, no GPU: {floor_ms:g} ms a step, {how}")
            print(f"1:{workload.scale:g}, {model.batch} images a step, {workload.data_type} and {workload.train_type}")
            print(tables.render(workload, found))
    about = {"title": workload.title, "accelerator": "a sleep; no GPU is used", "scale": workload.scale, **calibration}
    return {**about, "published": tables.published_rows(workload), "parts": parts}


def write(name: str, workload: dict[str, Any]) -> None:
    """Puts a workload's figures into cluster.json, beside those of the others that are there, and draws all of them."""
    OUT.mkdir(parents=True, exist_ok=True)
    file = OUT / "cluster.json"
    before = json.loads(file.read_text())["workloads"] if file.exists() else {}
    every = {**before, name: workload}
    workloads = {one.name: every[one.name] for one in WORKLOADS if one.name in every}
    file.write_text(json.dumps({"benchmark": "cluster", "workloads": workloads}, indent=1) + "\n")
    charts = [chart for one in workloads.values() for chart in tables.charts(one)]
    report.bars(charts, "ms a step; no GPU is used, the accelerator is a sleep").save(OUT / "cluster.png", optimize=True)


if __name__ == "__main__":
    sys.exit(main())
