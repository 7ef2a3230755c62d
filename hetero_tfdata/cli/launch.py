"""Runs this host's part of the job: on data hosts the servers, on training hosts SCRIPT with its arguments."""

from __future__ import annotations

import argparse
import shlex

from hetero_tfdata.cli.roles import add_role, roles_of
from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.launch.entry import launch

SUMMARY = "run this host's part of a job: servers on data hosts, the script on training hosts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options come before SCRIPT; everything after it is the script's."""
    parser.add_argument(
        "--preload",
        action="append",
        default=[],
        metavar="MODULE",
        help="load the module into every server before it serves; distribute() has them load what a dataset's graph names "
        "(tensorflow_addons is loaded where it is installed)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="worker processes per serving host (default: one for every 8 usable CPUs, more for a link above 5 Gbit/s each)",
    )
    parser.add_argument(
        "--local-workers",
        default="0",
        metavar="N",
        help="worker processes beside the training on each training host of a heterogeneous job, at the lowest priority; auto: "
        "as many as fit into the CPUs that the training leaves idle. The training hosts need the data's channels then "
        "(default: 0)",
    )
    parser.add_argument(
        "--prepare",
        default="",
        metavar="'SCRIPT ARGS'",
        help="the data hosts run this script before they serve (without data hosts the training hosts, before they train): one "
        "that makes the files that the dataset reads",
    )
    add_role(parser)
    parser.add_argument("script", metavar="SCRIPT", help="the training script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGS", help="its arguments")


def run(arguments: argparse.Namespace) -> int:
    """Plays this host's part; the exit code is the script's on training hosts, 0 or 1 on data hosts."""
    if arguments.workers is not None and arguments.workers < 1:
        raise ConfigurationError(f"--workers: expected at least 1, got {arguments.workers}")
    local_workers = _local_workers(arguments.local_workers)
    return launch(
        arguments.script,
        arguments.arguments,
        preload=arguments.preload,
        workers=arguments.workers,
        local_workers=local_workers,
        prepare=_words(arguments.prepare),
        roles=roles_of(arguments.role),
    )


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigurationError(f"--prepare: expected a script and its arguments, got {text!r}: {error}") from None


def _local_workers(text: str) -> int | None:
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit()):
        raise ConfigurationError(f"--local-workers: expected auto, 0 or a number of processes, got {text!r}")
    return int(text)
