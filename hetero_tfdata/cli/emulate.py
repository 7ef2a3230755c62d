"""A SageMaker training job, heterogeneous or not, on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hetero_tfdata.errors import ConfigurationError

if TYPE_CHECKING:
    from hetero_tfdata.emulate import Job

SUMMARY = "run a SageMaker job, heterogeneous or not, on this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The job first, then how it is run."""
    add = parser.add_argument
    add(
        "--job",
        metavar="FOLDER|FILE",
        help="a job file, as `submit` takes it, instead of --group, --source-dir and ENTRY_POINT; --channel, -p, "
        "--environment and --processes-per-host go before what it says",
    )
    add("--homogeneous", action="store_true", help="the job file's job without its data groups, for the comparison")
    add(
        "--group",
        action="append",
        default=[],
        metavar="NAME=TYPE:COUNT",
        help="an instance group, such as data_group=ml.c5.18xlarge:2; up to 5",
    )
    add("--distribution", metavar="GROUP", help="the group that runs MPI (default: every host runs the entry point itself)")
    add("--processes-per-host", type=int, metavar="N", help="ranks on each host of that group (default: 1)")
    add(
        "--channel",
        action="append",
        default=[],
        metavar="NAME[@GROUP,...]=DIR",
        help="an input channel and the folder that the hosts see as SM_CHANNEL_NAME: all hosts, or those of the groups alone",
    )
    add(
        "--input-mode",
        default="File",
        metavar="File|FastFile",
        help="how channels are read: both are folders, that of FastFile can't be written (default: File)",
    )
    add(
        "--checkpoints",
        metavar="DIR",
        help="the folder that every host sees as /opt/ml/checkpoints and that stays for the next run (default: an empty one)",
    )
    add(
        "--accelerators",
        action="append",
        default=[],
        metavar="[GROUP=]N",
        help="SM_NUM_GPUS of the hosts of a group, or of all that have any (default: what the instance type has)",
    )
    add(
        "-p",
        "--hyperparameter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a hyperparameter, JSON or text; the entry point gets it as --KEY VALUE",
    )
    add(
        "--environment",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable of every host, as the job's Environment on SageMaker",
    )
    add("--source-dir", metavar="DIR", help="the folder with the entry point; every host gets a copy")
    add(
        "--isolation",
        metavar="process|namespace",
        help="process (default): plain processes, each host with its own ports; namespace (default with --toolkit): each host "
        "has its own network, host name, address, /opt/ml and process ids (root, or user namespaces)",
    )
    add(
        "--toolkit",
        action="store_true",
        help="each host runs the command train of the installed sagemaker-training, with real mpirun and sshd in the "
        "distribution's group, instead of our stand-in (namespaces; as root where there is a distribution)",
    )
    add(
        "--scale",
        type=float,
        default=0.0,
        metavar="S",
        help="with namespaces: each host gets its instance type's vCPUs and link divided by S (default: 0, no limits)",
    )
    add("--link-scale", type=float, metavar="S", help="divide the links by this instead (default: the scale)")
    add("--memory-gib", type=float, metavar="N", help="with namespaces: memory of each host (default: no limit)")
    add(
        "--fault",
        action="append",
        default=[],
        metavar="TIME:KIND[:ARGUMENT][:DURATION]:HOST",
        help="what happens when: TIME (20s, 1.5m) from the first host's start; KIND kill-worker, kill-dispatcher, kill-rank:N, "
        "kill-host, freeze, cut (link down), slow:FACTOR (or slow-cpu, slow-link), disk-full; DURATION of the last four; HOST "
        "algo-2, data_group (its first host) or data_group/2. Such as 20s:kill-worker:algo-2, 30s:cut:15s:data_group, "
        "10s:kill-rank:3, 1m:slow:0.1:algo-1",
    )
    add("--stop-after", type=float, metavar="S", help="stop the job after S seconds: SIGTERM, grace time, SIGKILL")
    add("--max-runtime-s", type=float, metavar="S", help="the job's MaxRuntimeInSeconds: it is stopped likewise")
    add(
        "--stop-grace-s",
        type=float,
        metavar="S",
        help="from SIGTERM to SIGKILL (default: SageMaker's 120 with one of these two, else 20)",
    )
    add("--stagger", type=float, default=0.0, metavar="S", help="hosts come up S seconds apart, in random order")
    add("--seed", type=int, metavar="N", help="repeat an assignment of hosts to groups (default: random)")
    add(
        "--timeout-s",
        type=float,
        default=3600.0,
        metavar="N",
        help="the emulator's own limit in seconds, a failure when it is reached (default: 3600)",
    )
    add(
        "--output",
        metavar="DIR",
        help="folder for logs, /opt/ml of each host, summary.json and timeline.csv; an earlier run's is replaced "
        "(default: a fresh out/emulate/<timestamp>)",
    )
    add("--state", metavar="FILE", help="a JSON file that always says how the hosts are")
    add("entry_point", nargs="?", metavar="ENTRY_POINT", help="a .py file in the source folder")


def run(args: argparse.Namespace) -> int:
    """Runs the job; 0 only if every host exited 0, 130 after Ctrl-C, else 1."""
    from hetero_tfdata.emulate import run as emulate

    job = _job_of_file(args) if args.job else _job(args)
    result = emulate(
        job,
        output=args.output,
        state=args.state,
        timeout_s=args.timeout_s,
        seed=args.seed,
        isolation=args.isolation or ("namespace" if args.toolkit else "process"),
        scale=args.scale,
        link_scale=args.link_scale,
        memory_gib=args.memory_gib,
        toolkit=args.toolkit,
        stream=sys.stdout,
        faults=args.fault,
        stop_after_s=args.stop_after,
        max_runtime_s=args.max_runtime_s,
        stop_grace_s=args.stop_grace_s,
        stagger_s=args.stagger,
    )
    return result.exit_code


def _job(args: argparse.Namespace) -> Job:
    from hetero_tfdata.emulate import Group, Job
    from hetero_tfdata.emulate.job import parse_accelerators

    missing = {"--group": args.group, "--source-dir": args.source_dir, "ENTRY_POINT": args.entry_point}
    if not all(missing.values()):
        names = [name for name, value in missing.items() if not value]
        raise ConfigurationError(f"expected {', '.join(names)}, or --job with a job file")
    if args.homogeneous:
        raise ConfigurationError("--homogeneous: expected only with --job; leave the data group out instead")
    if args.processes_per_host is not None and args.distribution is None:
        raise ConfigurationError("--processes-per-host needs --distribution GROUP: the group that runs the processes")
    groups = [Group.parse(text) for text in args.group]
    return Job(
        groups=groups,
        source_dir=args.source_dir,
        entry_point=args.entry_point,
        distribution=args.distribution,
        processes_per_host=1 if args.processes_per_host is None else args.processes_per_host,
        accelerators=parse_accelerators(args.accelerators, groups, args.distribution),
        checkpoints=args.checkpoints,
        **_of_command_line(args),
    )


def _job_of_file(args: argparse.Namespace) -> Job:
    """The job file's, with what the command line says instead."""
    from hetero_tfdata.emulate import Channel
    from hetero_tfdata.emulate.job import parse_accelerators
    from hetero_tfdata.sagemaker.job_file import read

    given = {"--group": args.group, "--source-dir": args.source_dir, "ENTRY_POINT": args.entry_point}
    twice = [name for name, value in {**given, "--distribution": args.distribution}.items() if value]
    if twice:
        raise ConfigurationError(f"--job: the job file says what {', '.join(twice)} would; leave one of them out")
    told = read(args.job)
    told = told.homogeneous() if args.homogeneous else told
    own = _of_command_line(args)
    channels: dict[str, Channel] = own["channels"]
    unknown = [name for name in channels if name not in told.channels]
    if unknown:
        raise ConfigurationError(
            f"--channel {unknown[0]}: expected one of the job file's ({', '.join(told.channels) or 'none'})"
        )
    job = told.emulated(Path(told.source_dir), {name: Path(channel.folder) for name, channel in channels.items()})
    return replace(
        job,
        processes_per_host=args.processes_per_host or job.processes_per_host,
        hyperparameters={**job.hyperparameters, **own["hyperparameters"]},
        environment={**job.environment, **own["environment"]},
        accelerators=parse_accelerators(args.accelerators, job.groups, job.distribution),
        checkpoints=args.checkpoints,
    )


def _of_command_line(args: argparse.Namespace) -> dict[str, Any]:
    from hetero_tfdata.emulate.channels import parse_channel
    from hetero_tfdata.emulate.job import parse_hyperparameter, parse_variable

    return {
        "channels": _collected("--channel", args.channel, lambda text: parse_channel(text, args.input_mode)),
        "hyperparameters": _collected("-p", args.hyperparameter, parse_hyperparameter),
        "environment": _collected("--environment", args.environment, parse_variable),
    }


def _collected(option: str, texts: list[str], parse: Callable[[str], tuple[str, Any]]) -> dict[str, Any]:
    collected: dict[str, Any] = {}
    for text in texts:
        name, value = parse(text)
        if name in collected:
            raise ConfigurationError(f"{option}: {name!r} is given twice")
        collected[name] = value
    return collected
