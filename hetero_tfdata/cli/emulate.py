"""A SageMaker training job, heterogeneous or not, on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from hetero_tfdata.errors import ConfigurationError

SUMMARY = "run a SageMaker job, heterogeneous or not, on this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The job first, then how it is run."""
    add = parser.add_argument
    add(
        "--group",
        action="append",
        required=True,
        metavar="NAME=TYPE:COUNT",
        help="an instance group, such as data_group=ml.c5.18xlarge:2; up to 5",
    )
    add("--distribution", metavar="GROUP", help="the group that runs MPI (default: every host runs the entry point itself)")
    add("--processes-per-host", type=int, metavar="N", help="ranks on each host of that group (default: 1)")
    add(
        "--channel",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="an input channel and the folder that every host sees as SM_CHANNEL_NAME",
    )
    add(
        "-p",
        "--hyperparameter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a hyperparameter, JSON or text; the entry point gets it as --KEY VALUE",
    )
    add("--source-dir", required=True, metavar="DIR", help="the folder with the entry point; every host gets a copy")
    add(
        "--isolation",
        default="process",
        metavar="process|namespace",
        help="process: plain processes, each host with its own ports; namespace: each host has its own network, host name, "
        "address, /opt/ml and process ids (root, or user namespaces)",
    )
    add(
        "--scale",
        type=float,
        default=0.0,
        metavar="S",
        help="with namespaces: each host gets its instance type's vCPUs and link divided by S (default: 0, no limits)",
    )
    add("--memory-gib", type=float, metavar="N", help="with namespaces: memory of each host (default: no limit)")
    add("--seed", type=int, metavar="N", help="repeat an assignment of hosts to groups (default: random)")
    add("--timeout-s", type=float, default=3600.0, metavar="N", help="time limit of the run in seconds (default: 3600)")
    add(
        "--output",
        metavar="DIR",
        help="folder for logs, /opt/ml of each host and summary.json; an earlier run's is replaced "
        "(default: a fresh out/emulate/<timestamp>)",
    )
    add("--state", metavar="FILE", help="a JSON file that always says how the hosts are")
    add("entry_point", metavar="ENTRY_POINT", help="a .py file in the source folder")


def run(args: argparse.Namespace) -> int:
    """Runs the job; 0 only if every host exited 0, 130 after Ctrl-C, else 1."""
    from hetero_tfdata.emulate import Group, Job
    from hetero_tfdata.emulate import run as emulate
    from hetero_tfdata.emulate.job import parse_hyperparameter

    if args.processes_per_host is not None and args.distribution is None:
        raise ConfigurationError("--processes-per-host needs --distribution GROUP: the group that runs the processes")
    job = Job(
        groups=[Group.parse(text) for text in args.group],
        source_dir=args.source_dir,
        entry_point=args.entry_point,
        distribution=args.distribution,
        processes_per_host=1 if args.processes_per_host is None else args.processes_per_host,
        channels=_collected("--channel", args.channel, _parse_channel),
        hyperparameters=_collected("-p", args.hyperparameter, parse_hyperparameter),
    )
    result = emulate(
        job,
        output=args.output,
        state=args.state,
        timeout_s=args.timeout_s,
        seed=args.seed,
        isolation=args.isolation,
        scale=args.scale,
        memory_gib=args.memory_gib,
        stream=sys.stdout,
    )
    return result.exit_code


def _collected(option: str, texts: list[str], parse: Callable[[str], tuple[str, Any]]) -> dict[str, Any]:
    collected: dict[str, Any] = {}
    for text in texts:
        name, value = parse(text)
        if name in collected:
            raise ConfigurationError(f"{option}: {name!r} is given twice")
        collected[name] = value
    return collected


def _parse_channel(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise ConfigurationError(f"--channel: expected NAME=DIR such as train=data/train, got {text!r}")
    return name, folder
