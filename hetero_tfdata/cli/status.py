"""Shows how each host of a job is: run it on any of the job's hosts, or with --state beside an emulation."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hetero_tfdata.cli.roles import add_role, roles_of
from hetero_tfdata.cluster.topology import Cluster, Host
from hetero_tfdata.errors import ConfigurationError, HeteroTFDataError

SUMMARY = "how each host of a running job is"

_CLEAR = "\033[H\033[2J"
_HEADINGS = ("host", "group", "role", "state", "workers", "batches", "restarts", "CPUs", "TensorFlow")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whom to ask, and how to show it."""
    add_role(parser)
    parser.add_argument("--watch", type=float, nargs="?", const=2.0, metavar="S", help="again every S seconds (2) until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="as JSON, one line each time")
    parser.add_argument("--timeout-s", type=float, default=3.0, metavar="S", help="for a host's answer (default: %(default)s)")
    parser.add_argument(
        "--state",
        metavar="FILE",
        help="the file of hetero-tfdata emulate --state: asks the hosts of that emulation (with namespaces: as root)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Asks and prints; 0 if every host answered and none has failed, else 1."""
    for name, value in (("--watch", arguments.watch), ("--timeout-s", arguments.timeout_s)):
        if value is not None and value <= 0:
            raise ConfigurationError(f"{name}: expected seconds above 0, got {value:g}")
    if arguments.state is not None:
        return _inside(Path(arguments.state))
    cluster = Cluster.discover(roles=roles_of(arguments.role))
    while True:
        rows = ask(cluster, arguments.timeout_s)
        clear = _CLEAR if arguments.watch and sys.stdout.isatty() and not arguments.json else ""
        print(clear + (json.dumps({"hosts": rows}) if arguments.json else render(rows)), flush=True)
        if arguments.watch is None:
            return 0 if all(row["phase"] not in (None, "failed") for row in rows) else 1
        time.sleep(arguments.watch)


def ask(cluster: Cluster, timeout_s: float) -> list[dict[str, Any]]:
    """One row a host, all asked at once: name, group, role, instance_type, and its `HostStatus`; where a host does not answer,
    phase is null and reason says why."""
    from hetero_tfdata.service.status import ask_status

    def one(host: Host) -> dict[str, Any]:
        group = next(group for group in cluster.groups if host.name in group.hosts)
        row = {"host": host.name, "group": group.name, "role": group.role.value, "instance_type": group.instance_type}
        try:
            told = asdict(ask_status(host, timeout_s))
        except HeteroTFDataError as error:
            return row | {"phase": None, "reason": str(error)}
        return row | told | {"phase": told["phase"].value}

    with ThreadPoolExecutor(len(cluster.hosts)) as pool:
        return list(pool.map(one, cluster.hosts))


def render(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table, and below it the reasons."""
    lines: list[Sequence[str]] = [_HEADINGS]
    notes = []
    for row in rows:
        cells = [row["host"], row["group"], row["role"], row["phase"] or "no answer"]
        if row["phase"] is not None:
            servers = [*row["workers"], *([row["dispatcher"]] if row["dispatcher"] else [])]
            ready = sum(worker["ready"] for worker in row["workers"])
            cells += [
                f"{ready} of {len(row['workers'])}" if row["workers"] else "-",
                f"{sum(worker['batches_served'] for worker in row['workers']):,}" if row["workers"] else "-",
                f"{sum(server['restarts'] for server in servers)}" if servers else "-",
                str(row["usable_cpus"]),
                row["tensorflow"] or "-",
            ]
        lines.append([*cells, *[""] * (len(_HEADINGS) - len(cells))])
        if row["reason"]:
            notes.append(f"{row['host']}: {row['reason']}")
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*table, *notes])


def _inside(state: Path) -> int:
    """The same command as a process of a running host of an emulation, with that host's variables: its exit code."""
    try:
        hosts = json.loads(state.read_text())["hosts"]
        running = [host for host in hosts if host["exit_code"] is None]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"--state {state}: expected the file of a running emulation ({error})") from None
    if not running:
        raise ConfigurationError(f"--state {state}: expected a running emulation, all its hosts have ended")
    host = running[0]
    command = [sys.executable, "-m", "hetero_tfdata", *_without_state(sys.argv[1:])]
    if host.get("namespace"):
        command = ["nsenter", "--target", str(host["pid"]), "--net", "--mount", "--uts", *command]
    return subprocess.run(command, env=_environment(host["pid"])).returncode


def _environment(pid: int) -> dict[str, str]:
    """The variables that a process was started with."""
    try:
        block = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError as error:
        raise ConfigurationError(f"--state: can't read the variables of process {pid}: {error.strerror}") from None
    pairs = (entry.partition("=") for entry in os.fsdecode(block).split("\0") if "=" in entry)
    return {name: value for name, _, value in pairs}


def _without_state(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word != "--state" and not word.startswith("--state="):
            kept.append(word)
        skip = word == "--state" and not skip
    return kept
