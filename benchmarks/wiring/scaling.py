"""1 to 16 workers and 1 to 16 consumers on pipelines that sleep, and what a batch costs beside its bytes.

All workers are in one process, all consumers threads of another: what is compared is tf.data service's scheduling and
distribute()'s, on a machine that has far fewer CPUs than workers.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from augmentation import report

from wiring import rounds

COUNTS = (1, 2, 4, 8, 16)
CELLS = (*((workers, 1) for workers in COUNTS), *((COUNTS[-1], consumers) for consumers in COUNTS[1:]))
SLEEP_US = 20_000  # a batch; 800 batches/s from 16 workers are a third of two CPUs
WAYS = {"stock": "stock, its defaults", "ours": "distribute()"}
BUSY_WAYS = {"stock": "stock, its defaults", "stock-none": "stock, no compression", "ours": "distribute()"}
BUSY_BATCHES = 4000
LEAD_S, WINDOW_S = 0.3, 1.0

__all__ = ["CELLS", "SLEEP_US", "WAYS", "measure", "overhead", "print_tables", "summary"]


def measure(count: int, logs: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """The turns of all cells, and their medians."""
    turns: dict[tuple[str, int, int], list[dict[str, Any]]] = {(way, *cell): [] for way in WAYS for cell in CELLS}
    busy: dict[str, list[dict[str, Any]]] = {way: [] for way in BUSY_WAYS}
    names = (f"turn-{number}" for number in itertools.count())
    with rounds.fleet("wire-scaling", logs, ",".join(map(str, COUNTS))) as (servers, places, receiver):
        services = {workers: places["services"][str(workers)] for workers in COUNTS}

        def sleep(way: str, workers: int, consumers: int) -> dict[str, Any]:
            return receiver.ask(
                turn="sleeping",
                way=way,
                service=services[workers],
                name=next(names),
                sleep_us=SLEEP_US,
                consumers=consumers,
                lead_s=LEAD_S,
                window_s=WINDOW_S,
                pids=[servers.pid],
            )

        def work(way: str) -> dict[str, Any]:
            return receiver.ask(
                turn="busy", way=way, service=services[1], name=next(names), batches=BUSY_BATCHES, pids=[servers.pid]
            )

        for way in BUSY_WAYS:
            work(way)
        for number in range(count):
            for key in turns if number % 2 == 0 else reversed(turns):
                turn = sleep(*key)
                turns[key].append(turn)
                way, workers, consumers = key
                rate = turn["batches"] / turn["wall_s"]
                say(f"scaling: round {number + 1} of {count}, {workers} workers, {consumers} consumers, {way}: {rate:.0f}/s")
        # shorter than a cell's, and apart by less: more of them
        for number in range(2 * count + 1):
            for way in BUSY_WAYS if number % 2 == 0 else reversed(BUSY_WAYS):
                busy[way].append(work(way))
        say("scaling: overhead measured")
    return {"rounds": count, "sleep_us": SLEEP_US, "cells": summary(turns), "overhead": overhead(busy)}


def summary(turns: Mapping[tuple[str, int, int], Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Of each number of workers and consumers: the ideal, and each contender's median."""
    cells = []
    for workers, consumers in dict.fromkeys(key[1:] for key in turns):
        ideal = workers / SLEEP_US * 1e6
        cell: dict[str, Any] = {"workers": workers, "consumers": consumers, "ideal_batches_per_s": ideal}
        for way in WAYS:
            rates = [turn["batches"] / turn["wall_s"] for turn in turns[way, workers, consumers]]
            rate = statistics.median(rates)
            cell[way] = {"batches_per_s": rate, "min": min(rates), "max": max(rates), "of_ideal": rate / ideal}
        cells.append(cell)
    return cells


def overhead(turns: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Microseconds a batch of each contender, medians; and the median of each round's ratio of both sides' CPU to ours."""

    def both(turn: Mapping[str, Any]) -> float:
        return (turn["client_cpu_s"] + sum(turn["others_cpu_s"])) / turn["batches"]

    found = {}
    for way, each in turns.items():
        found[way] = {
            "label": BUSY_WAYS[way],
            "wall_us": statistics.median(turn["wall_s"] / turn["batches"] * 1e6 for turn in each),
            "client_cpu_us": statistics.median(turn["client_cpu_s"] / turn["batches"] * 1e6 for turn in each),
            "worker_cpu_us": statistics.median(turn["others_cpu_s"][0] / turn["batches"] * 1e6 for turn in each),
            "ours_to_it": statistics.median(both(a) / both(b) for a, b in zip(turns["ours"], each, strict=True)),
        }
    return found


def print_tables(result: Mapping[str, Any]) -> None:
    """On standard output."""
    print(f"\nBatches/s where a batch takes a worker {result['sleep_us'] / 1e3:g} ms of sleep; all workers in one process")
    rows = []
    for cell in result["cells"]:
        row = [str(cell["workers"]), str(cell["consumers"]), f"{cell['ideal_batches_per_s']:.0f}"]
        for way in WAYS:
            row += [f"{cell[way]['batches_per_s']:.0f}", f"{cell[way]['of_ideal']:.0%}"]
        rows.append(row)
    headings = ["workers", "consumers", "ideal", *(word for label in WAYS.values() for word in (label, "of ideal"))]
    print(report.table(headings, rows))
    print("\nA batch of eight numbers, one worker, microseconds")
    rows = [
        [
            one["label"],
            f"{one['wall_us']:.0f}",
            f"{one['client_cpu_us']:.0f}",
            f"{one['worker_cpu_us']:.0f}",
            f"{one['ours_to_it']:.2f}",
        ]
        for one in result["overhead"].values()
    ]
    print(report.table(["", "wall", "client CPU", "worker CPU", "distribute()'s CPU / it"], rows))
