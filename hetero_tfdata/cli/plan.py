"""Predicts the step and the bill of clusters with and without data hosts, and says which one to take. Needs no TensorFlow."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hetero_tfdata.errors import ConfigurationError

if TYPE_CHECKING:
    from hetero_tfdata.plan.model import Assumptions
    from hetero_tfdata.plan.options import Option
    from hetero_tfdata.plan.profile import Profile

SUMMARY = "predict step and bill with and without data hosts, and say which cluster to take"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The job, the candidates, what counts."""
    add = parser.add_argument
    add("--train-instance", required=True, metavar="TYPE", help="type of the training hosts, such as ml.p4d.24xlarge")
    add("--train-count", type=int, default=1, metavar="N", help="training hosts (default: %(default)s)")
    add("--data-instance", metavar="TYPE", help="type of the data hosts, such as ml.c5.18xlarge")
    add("--search", action="store_true", help="try every type without accelerators that has a price as data host")
    add("--global-batch-size", type=int, required=True, metavar="B", help="samples of a step, over all ranks")
    add(
        "--cpu-ms-per-sample",
        type=float,
        metavar="C",
        help="vCPU-milliseconds of the input graph on the training type with all its vCPUs busy: step without data hosts x "
        "vCPUs / batch, where the input decides it",
    )
    add(
        "--accelerator-ms-per-step",
        type=float,
        metavar="A",
        help="what a step takes when its batch is there already",
    )
    add("--wire-bytes-per-sample", type=float, metavar="W", help="what a sample weighs on the network")
    add(
        "--train-cpu-ms-per-step",
        type=float,
        default=0.0,
        metavar="T",
        help="vCPU-milliseconds that the training script itself takes for a step (default: %(default)g)",
    )
    add(
        "--profile",
        metavar="FILE",
        help="of `hetero-tfdata measure`: gives the three above where they are not given, and the cost of each stage",
    )
    add(
        "--graph",
        metavar="MODULE:FUNCTION",
        help="refuse a --profile of another graph than this function's dataset; needs TensorFlow, in a process of its own",
    )
    add(
        "--cpu-factor",
        type=float,
        default=1.0,
        metavar="F",
        help="speed of a vCPU of the profile's machine against one of the training type (default: 1)",
    )
    add("--max-data-instances", type=int, metavar="M", help="most data hosts (default: until more of them change nothing)")
    add(
        "--prices",
        default="2026-09",
        metavar="2022|2026-09|FILE",
        help="dollars per hour: of that date in us-east-1, or your own, in lines instance_type<tab>usd_per_hour (default: "
        "%(default)s)",
    )
    add("--objective", default="cheapest", metavar="cheapest|fastest", help="what to recommend (default: %(default)s)")
    add("--usd-per-hour-at-most", type=float, metavar="X", help="recommend no cluster beyond this")
    add("--no-local-workers", action="store_true", help="the training hosts' CPUs make no samples beside data hosts")
    add(
        "--data-cpu-factor",
        type=float,
        default=1.0,
        metavar="F",
        help="speed of a data host's vCPU against a training host's (default: 1, as nobody has measured it)",
    )
    add("--json", action="store_true", help="as JSON")
    add("--report", metavar="FILE.html", help="write the plan as one page too, with charts")


def run(arguments: argparse.Namespace) -> int:
    """Prints the plan; 0."""
    from hetero_tfdata.plan.advice import advise
    from hetero_tfdata.plan.files import write
    from hetero_tfdata.plan.model import Assumptions, Job
    from hetero_tfdata.plan.options import OBJECTIVES, best, data_types, options
    from hetero_tfdata.plan.prices import PriceList, described
    from hetero_tfdata.plan.profile import Profile
    from hetero_tfdata.plan.render import text
    from hetero_tfdata.plan.report import page

    profile = Profile.read(Path(arguments.profile)) if arguments.profile else None
    if profile is not None:
        _fill(arguments, profile)
    if arguments.graph:
        _require_graph(arguments, profile)
    _check(arguments, OBJECTIVES)
    prices = PriceList.of(arguments.prices)
    train = described(arguments.train_instance)
    job = Job(
        arguments.global_batch_size,
        arguments.cpu_ms_per_sample,
        arguments.accelerator_ms_per_step,
        arguments.wire_bytes_per_sample,
        arguments.train_cpu_ms_per_step,
    )
    assumptions = Assumptions(not arguments.no_local_workers, arguments.data_cpu_factor)
    candidates = data_types(prices) if arguments.search else [described(arguments.data_instance)]
    found: list[Option] = []
    for data in candidates:
        every = options(job, train, arguments.train_count, data, prices, arguments.max_data_instances, assumptions)
        found += every if not found else every[1:]  # without data hosts it is the same for all
    recommended = best(found, arguments.objective, arguments.usd_per_hour_at_most)
    path = advise(job, found, recommended, prices, assumptions, profile)
    assumed = _assumed(arguments, prices.source, assumptions, profile)
    shown = found if not arguments.search else _ranked(found, recommended)
    if arguments.report:
        write(Path(arguments.report), page(shown, recommended, path, assumed, _given(arguments)), "--report")
    if arguments.json:
        answer = {
            "options": [one.as_json() for one in found],
            "recommended": recommended.as_json(),
            "advice": " ".join(f"{one.asked} {one.answer}: {one.told}." for one in path),
            "path": [{"asked": one.asked, "answer": one.answer, "told": one.told} for one in path],
            "assumptions": assumed,
        }
        print(json.dumps(answer, indent=1))
    else:
        print(text(shown, recommended, path, assumed))
    return 0


_SHOWN = 8
_NEEDED = ("cpu_ms_per_sample", "accelerator_ms_per_step", "wire_bytes_per_sample")


def _ranked(found: list[Option], recommended: Option) -> list[Option]:
    """Without data hosts, the cheapest of the others, and the recommended one with its neighbours."""
    count = recommended.prediction.data_instances
    others = sorted(found[1:], key=lambda one: one.usd_per_1000_steps)
    near = [one for one in others if one.data == recommended.data and abs(one.prediction.data_instances - count) <= 1]
    return [found[0], *(one for number, one in enumerate(others) if number < _SHOWN or (count and one in near))]


def _given(arguments: argparse.Namespace) -> dict[str, str]:
    """The options and their values, as they count."""
    kept = {name: value for name, value in vars(arguments).items() if value not in (None, False)}
    return {f"--{name.replace('_', '-')}": f"{value}" for name, value in kept.items() if name != "subcommand"}


def _require_graph(arguments: argparse.Namespace, profile: Profile | None) -> None:
    """Raises ConfigurationError: the profile is of another graph."""
    if profile is None:
        raise ConfigurationError("--graph: expected a --profile to compare it with")
    command = [sys.executable, "-m", "hetero_tfdata", "measure", arguments.graph, "--fingerprint"]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        lines = [line for line in found.stderr.splitlines() if line.startswith("hetero-tfdata: ")] or found.stderr.splitlines()[
            -1:
        ]
        raise ConfigurationError(f"--graph {' '.join(lines).removeprefix('hetero-tfdata: ')}")
    graph = found.stdout.split()[-1]
    if graph != profile.graph:
        raise ConfigurationError(
            f"--profile {arguments.profile}: it is of {profile.dataset} as that graph was ({profile.graph}), expected "
            f"{arguments.graph} ({graph}): hetero-tfdata measure {arguments.graph} --output {arguments.profile}"
        )


def _fill(arguments: argparse.Namespace, profile: Profile) -> None:
    """What was not given on the command line."""
    if arguments.cpu_ms_per_sample is None:
        arguments.cpu_ms_per_sample = profile.cpu_ms_per_sample * arguments.cpu_factor
    if arguments.wire_bytes_per_sample is None:
        arguments.wire_bytes_per_sample = profile.wire_bytes_per_sample
    if arguments.accelerator_ms_per_step is None:
        arguments.accelerator_ms_per_step = profile.accelerator_ms_per_step


def _check(arguments: argparse.Namespace, objectives: tuple[str, ...]) -> None:
    if (arguments.data_instance is None) != arguments.search:
        raise ConfigurationError("expected either --data-instance TYPE or --search")
    for name in (
        "global_batch_size",
        "train_count",
        "cpu_ms_per_sample",
        "accelerator_ms_per_step",
        "wire_bytes_per_sample",
        "data_cpu_factor",
        "cpu_factor",
        "usd_per_hour_at_most",
    ):
        value = getattr(arguments, name)
        if value is None and name in _NEEDED:
            raise ConfigurationError(f"expected --{name.replace('_', '-')}, or a --profile that has it")
        if value is not None and not 0 < value < math.inf:
            raise ConfigurationError(f"--{name.replace('_', '-')}: expected a number above 0, got {value:g}")
    if not 0 <= arguments.train_cpu_ms_per_step < math.inf:
        raise ConfigurationError(f"--train-cpu-ms-per-step: expected at least 0, got {arguments.train_cpu_ms_per_step:g}")
    if arguments.max_data_instances is not None and not 0 <= arguments.max_data_instances <= 1000:
        raise ConfigurationError(f"--max-data-instances: expected 0 to 1000, got {arguments.max_data_instances}")
    if arguments.objective not in objectives:
        raise ConfigurationError(f"--objective: expected {' or '.join(objectives)}, got {arguments.objective!r}")


def _assumed(arguments: argparse.Namespace, prices: str, assumptions: Assumptions, profile: Profile | None) -> list[str]:
    from hetero_tfdata.plan.model import GBPS_PER_FLOW

    measured = []
    if profile is not None:
        machine = profile.machine
        measured.append(
            f"{arguments.profile}: {profile.cpu_ms_per_sample:.4g} vCPU-ms a sample on {machine.get('cpus')} CPUs "
            f"({machine.get('cpu')}, {machine.get('date')}), {arguments.cpu_factor:g} of that on {arguments.train_instance}"
        )
    where = "on training and data hosts" if assumptions.local_workers else "on data hosts alone (--no-local-workers)"
    factor = assumptions.data_cpu_factor
    return [
        *measured,
        f"prices: {prices}",
        "vCPUs and links: EC2's own description of the types (baseline rates, no bursts); ml.* equal to EC2",
        f"workers {where}; hosts share the work by what each delivers",
        f"a data host's vCPU makes {factor:g} of what a training host's does"
        + (", as nobody has measured it (--data-cpu-factor)" if factor == 1 else ""),
        f"handing on a million bytes takes a worker {assumptions.send_ms_per_mb:g} vCPU-ms, and the training host "
        f"{assumptions.receive_ms_per_mb:g} (make bench-wire, 2026-11-24)",
        f"one TCP flow carries at most {GBPS_PER_FLOW:g} Gbit/s (EC2, no placement group); there are workers x ranks flows",
        f"the training script itself takes {arguments.train_cpu_ms_per_step:g} vCPU-ms of a step (--train-cpu-ms-per-step); "
        "input and accelerators overlap completely",
    ]
