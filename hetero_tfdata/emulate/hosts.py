"""The hosts of an emulated job: who gets which name, group, address and ports."""

from __future__ import annotations

import random
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from hetero_tfdata.emulate.job import Group, Job
from hetero_tfdata.errors import PortInUseError

__all__ = ["PORTS_PER_HOST", "Host", "assigned", "endpoints", "master", "place"]

# With process isolation all hosts share one network, so each gets ports of its own.
ADDRESS = "127.0.0.1"
PORTS_PER_HOST = 100
FIRST_PORT = 20000
# What a host uses in practice (dispatcher, health, a few workers); the rest of its block is room.
_CHECKED_PORTS = 20
# Of a block, the port that nothing of a job listens on: bound, it says that the block is taken.
_HELD_PORT = 9
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_EPHEMERAL_DEFAULT = 32768  # Linux's default start


@dataclass(frozen=True)
class Host:
    """One instance of the emulated job.

    Attributes:
        name: SageMaker's name, such as "algo-3".
        group: its instance group.
        instance_type: the group's.
        address: the IP address under which the other hosts reach it.
        first_port: the first of the 100 ports that belong to it; None: it has all ports of its own.
    """

    name: str
    group: str
    instance_type: str
    address: str
    first_port: int | None = None


def assigned(job: Job, seed: int | None = None) -> list[Group]:
    """The groups of algo-1, algo-2 and so on: random in every job, as on SageMaker; a seed repeats an assignment."""
    slots = [group for group in job.groups for _ in range(group.count)]
    random.Random(seed).shuffle(slots)
    return slots


def place(job: Job, seed: int | None = None, held: list[socket.socket] | None = None) -> tuple[Host, ...]:
    """The job's hosts in natural order of their names, each with a block of ports on this machine.

    Args:
        job: whose hosts.
        seed: of the assignment; see `assigned`.
        held: gets a socket for each host. Until it is closed no other emulator takes the host's block, on which nobody listens
            before TensorFlow is imported.

    Raises:
        PortInUseError: not enough free ports.
    """
    slots, held = assigned(job, seed), [] if held is None else held
    return tuple(
        Host(f"algo-{number}", group.name, group.instance_type, ADDRESS, first_port)
        for number, (group, first_port) in enumerate(zip(slots, _free_blocks(len(slots), held), strict=True), start=1)
    )


def endpoints(hosts: tuple[Host, ...]) -> dict[str, str]:
    """Name -> "address:first port" of every host, the value of HETERO_TFDATA_ADDRESSES."""
    return {host.name: f"{host.address}:{host.first_port}" for host in hosts}


def master(job: Job, hosts: tuple[Host, ...]) -> str | None:
    """The host that starts the ranks: the first of the distribution group in SageMaker's order, or None."""
    return min((host.name for host in hosts if host.group == job.distribution), default=None)


def natural(name: str) -> list[tuple[int, str]]:
    """Sorts algo-2 before algo-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _free_blocks(count: int, held: list[socket.socket]) -> list[int]:
    """First ports of blocks in which nothing listens, and which are ours from now on: a port of each is bound.

    Below the ephemeral range, so that no outgoing connection takes one of them first; from a random block on, as looking at a
    port takes it for a moment, also from another emulator that looks at it.
    """
    end = _ephemeral_start()
    if end < FIRST_PORT + 2 * PORTS_PER_HOST:  # a machine that lends all of its ports: no place is safer than another
        end = _EPHEMERAL_DEFAULT
    candidates = list(range(FIRST_PORT, end - PORTS_PER_HOST + 1, PORTS_PER_HOST))
    start = random.SystemRandom().randrange(len(candidates))
    blocks: list[int] = []
    for first in candidates[start:] + candidates[:start]:
        if len(blocks) == count:
            break
        if all(_is_free(port) for port in range(first, first + _CHECKED_PORTS)) and (own := _bound(first + _HELD_PORT)):
            held.append(own)
            blocks.append(first)
    if len(blocks) < count:
        raise PortInUseError(
            f"{count} hosts need {count} free blocks of {PORTS_PER_HOST} ports, found {len(blocks)} in "
            f"{FIRST_PORT}-{candidates[-1] + PORTS_PER_HOST - 1}; end what listens there or emulate fewer hosts"
        )
    return sorted(blocks)


def _ephemeral_start() -> int:
    try:
        return int(_EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _EPHEMERAL_DEFAULT


def _is_free(port: int) -> bool:
    probe = _bound(port)
    if probe is not None:
        probe.close()
    return probe is not None


def _bound(port: int) -> socket.socket | None:
    probe = socket.socket()
    try:
        probe.bind(("0.0.0.0", port))
    except OSError:
        probe.close()
        return None
    return probe
