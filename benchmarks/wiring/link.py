"""How throughput grows with the workers of a data host, over the link of a VPC in slow motion (wiring/relay.py).

Why slow motion: the relay, the workers and the trainer share this machine, so the link has to be slow enough for its CPUs. All
that has seconds in it is FACTOR times slower: rates are divided by it, delays multiplied. Bytes stay as they are, messages,
windows and the bandwidth-delay product (5 Gbit/s x 0.4 ms there and back = 250 kB) among them. So a request waits for the
delay in the same proportion to its transfer as it would at full speed.

What does not slow down are the CPUs. The time for which a flow stands still while they work on a message (the worker's answer,
the trainer's copy) is here a FACTOR-th of its true share, which flatters all contenders. It is what is left of a message's time
after its transfer and a round trip: 1.4 to 2.6 ms for 2.4 MB and 18 to 24 ms for 19 MB, the same at the factors 4, 10 and 20 (2
CPUs, 2026-11-24). From it the share of a flow at full speed is reckoned. How throughput grows with the flows is measured.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from augmentation import report

from hetero_tfdata.service.chunks import chunk_rows
from hetero_tfdata.service.wire import Wire
from wiring import rounds
from wiring.contenders import TUNED_ROWS
from wiring.pixels import ROW_BYTES
from wiring.relay import Link

# An ml.c5.18xlarge: 25 Gbit/s, of which EC2 gives one flow 5; between two hosts of one zone 0.1 to 0.25 ms each way.
VPC = Link(one_way_s=0.0002, flow_bytes_per_s=5e9 / 8, host_bytes_per_s=25e9 / 8)
FACTOR = 10  # 500 Mbit/s a flow, 2.5 Gbit/s for the host, 2 ms: about one of two CPUs is busy when the link is full
BATCH = 128  # 19 MB: cut by distribute(), and below the 32 MB from which glibc's allocator would play a part
WORKERS = (1, 2, 3, 4, 5, 6, 8)
WAYS = {
    "tcp": ("raw TCP", None),
    "stock-uint8-none": ("stock, whole", BATCH),
    "tuned": ("stock, cut", TUNED_ROWS),
    "ours": ("distribute()", chunk_rows(BATCH, ROW_BYTES + 8, Wire().chunk_bytes)),
}
# Of a turn: after the lead, for so long; longer where whole batches of many workers come in bunches.
LEAD_S, TCP_WINDOW_S, WINDOW_S, LONG_WINDOW_S = 0.4, 0.7, 1.3, 2.2
_FULL = 0.9

__all__ = ["BATCH", "FACTOR", "VPC", "WAYS", "WORKERS", "at_full_speed", "figures", "measure", "print_tables"]


def measure(count: int, file: Path, logs: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """The rates in MB/s of all contenders and numbers of workers, turn by turn, and what they come to."""
    link = VPC.slowed(FACTOR)
    arguments = (",".join(map(str, WORKERS)), json.dumps(dataclasses.asdict(link)), str(file))
    turns: dict[str, dict[int, list[dict[str, Any]]]] = {way: {workers: [] for workers in WORKERS} for way in WAYS}
    with rounds.fleet("wire-link", logs, *arguments) as (servers, places, receiver):
        pids = [servers.pid, places["relay"]]
        ways = {"direct": places["direct"], "relayed": places["plain"][0]}
        round_trips = {name: receiver.ask(turn="echo", port=port, times=100)["round_trip_s"] for name, port in ways.items()}

        def take(way: str, workers: int) -> dict[str, Any]:
            timing = {"lead_s": LEAD_S, "pids": pids}
            if way == "tcp":
                ports = places["plain"][:workers]
                return receiver.ask(turn="plain", ports=ports, window_s=TCP_WINDOW_S, **timing)
            turn = receiver.ask(
                turn="batches",
                way=way,
                service=places["services"][str(workers)],
                file=str(file),
                batch=BATCH,
                workers=workers,
                window_s=LONG_WINDOW_S if workers > 4 else WINDOW_S,
                **timing,
            )
            return {"bytes": turn["images"] * ROW_BYTES, **turn}

        for way in WAYS:
            take(way, 1)  # TensorFlow's first graph, photographs into the page cache
        for number in range(count):
            for workers in WORKERS if number % 2 == 0 else reversed(WORKERS):
                for way in WAYS if number % 2 == 0 else reversed(WAYS):
                    turn = take(way, workers)
                    turns[way][workers].append(turn)
                    rate = turn["bytes"] / turn["wall_s"] / 1e6
                    say(f"link: round {number + 1} of {count}, {workers} workers, {way}: {rate:.1f} MB/s")
    return {
        "factor": FACTOR,
        "vpc": dataclasses.asdict(VPC),
        "link": dataclasses.asdict(link),
        "batch": BATCH,
        "rounds": count,
        "round_trip_s": {"asked": 2 * link.one_way_s, **round_trips},
        "contenders": figures(turns, link, round_trips["relayed"]),
    }


def figures(
    turns: Mapping[str, Mapping[int, Sequence[Mapping[str, Any]]]], link: Link, round_trip_s: float
) -> dict[str, dict[str, Any]]:
    """Of each contender and number of workers the medians over the rounds, its turns, and what ends its growth."""
    assert link.host_bytes_per_s is not None
    found: dict[str, dict[str, Any]] = {}
    for way, by_workers in turns.items():
        label, message_rows = WAYS[way]
        rates = {n: [turn["bytes"] / turn["wall_s"] for turn in each] for n, each in by_workers.items()}
        rows = {}
        for n, each in by_workers.items():
            cpus = statistics.median((turn["client_cpu_s"] + sum(turn["others_cpu_s"])) / turn["wall_s"] for turn in each)
            rate = statistics.median(rates[n])
            # each round against its own single worker
            linear = [a / (n * b) for a, b in zip(rates[n], rates[1], strict=True)]
            possible = [a / min(n * b, link.host_bytes_per_s) for a, b in zip(rates[n], rates[1], strict=True)]
            rows[n] = {
                "bytes_per_s": rate,
                "min": min(rates[n]),
                "max": max(rates[n]),
                "of_flows": rate / (n * link.flow_bytes_per_s),
                "of_host": rate / link.host_bytes_per_s,
                "of_linear": statistics.median(linear),
                "of_linear_until_full": statistics.median(possible),
                "cpus_busy": cpus,
                "limit": _limit(rate / link.host_bytes_per_s, cpus),
                "turns": list(each),
            }
        least = min(row["of_linear_until_full"] for row in rows.values())
        found[way] = {"label": label, "least_of_linear_until_full": least, "workers": rows}
        if message_rows is not None:
            message = message_rows * ROW_BYTES
            share = at_full_speed(message, statistics.median(rates[1]), link, round_trip_s)
            flows = math.ceil(link.host_bytes_per_s / link.flow_bytes_per_s / share)
            found[way] |= {"message_bytes": message, "of_flow_at_full_speed": share, "workers_that_fill_the_host": flows}
    return found


def _limit(of_host: float, cpus_busy: float) -> str:
    if of_host >= _FULL:
        return "link"
    return "CPUs" if cpus_busy >= _FULL * len(os.sched_getaffinity(0)) else "flows"


def at_full_speed(message_bytes: float, bytes_per_s: float, link: Link, round_trip_s: float) -> float:
    """The share of one flow's rate on the VPC itself, from one worker's rate over the slow link.

    A message takes its transfer, a round trip, and what the CPUs take for it while the flow stands still, which is the same
    at any speed.
    """
    still_s = max(0.0, message_bytes / bytes_per_s - message_bytes / link.flow_bytes_per_s - round_trip_s)
    transfer_s = message_bytes / VPC.flow_bytes_per_s
    return transfer_s / (transfer_s + 2 * VPC.one_way_s + still_s)


def print_tables(result: Mapping[str, Any]) -> None:
    """On standard output."""
    link, trip, found = Link(**result["link"]), result["round_trip_s"], result["contenders"]
    assert link.host_bytes_per_s is not None
    flow, host = (f"{rate * 8 / 1e6:,.0f} Mbit/s" for rate in (link.flow_bytes_per_s, link.host_bytes_per_s))
    print(
        f"\nWorkers of one data host, a link {result['factor']} times slower than a VPC's: {flow} a flow, {host} for the host,"
        f"\n{link.one_way_s * 1e3:g} ms each way (a byte there and back: {trip['relayed'] * 1e3:.1f} ms, without the relay "
        f"{trip['direct'] * 1e3:.2f}). MB/s, batches of {result['batch']}"
    )
    headings = ["workers", "link", *(word for one in found.values() for word in (one["label"], "of linear"))]
    headings += ["of flows", "limit", "CPUs"]
    rows = []
    for workers in WORKERS:
        allowed = min(workers * link.flow_bytes_per_s, link.host_bytes_per_s)
        row = [str(workers), f"{allowed / 1e6:.1f}"]
        for one in found.values():
            at = one["workers"][workers]
            row += [f"{at['bytes_per_s'] / 1e6:.1f}", f"{at['of_linear']:.0%}"]
        ours = found["ours"]["workers"][workers]
        rows.append([*row, f"{ours['of_flows']:.0%}", ours["limit"], f"{ours['cpus_busy']:.1f}"])
    print(report.table(headings, rows))
    print("of linear: of as many times one worker. distribute()'s: of flows (of their caps), limit, CPUs (busy, all processes)")
    least = "; ".join(f"{one['label']} {one['least_of_linear_until_full']:.0%}" for one in found.values())
    print(f"least of linear until the link is full: {least}\n")
    headings = ["one worker", "message, MB", "of a flow", "of a flow at full speed", "workers to fill the host's link then"]
    rows = [
        [
            one["label"],
            f"{one['message_bytes'] / 1e6:.1f}",
            f"{one['workers'][1]['of_flows']:.0%}",
            f"{one['of_flow_at_full_speed']:.0%}",
            f"{one['workers_that_fill_the_host']}",
        ]
        for one in found.values()
        if "message_bytes" in one
    ]
    print(report.table(headings, rows))
    print("at full speed: reckoned; this machine's CPU time for a message is added to transfer and round trip")
