"""The fault matrix on emulated hosts: does every host of a job end, or go on, as it must, and how long does it take?

    make bench-faults
    python benchmarks/faults.py --only worker-killed --rounds 1

Two data hosts and a training host, each with namespaces of its own (as root, or where user namespaces are allowed), real
servers, real links, faults on schedule. Each cell runs five times; its worst time counts. Prints a table and writes
out/bench/faults.json, in which the figures of cells that are not run stay; each run's logs are in
.cache/bench/faults/CELL-ROUND. Exits 1 if a run was not as it must be. About 80 s a run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from augmentation import report
from faulting.cells import CELLS, Cell
from faulting.runs import Finding, measure

ROOT = Path(__file__).parents[1]
_AT_S = 22.0
CACHE = ROOT / ".cache/bench/faults"
OUT = ROOT / "out/bench"
# with TensorFlow 2.12 and this package
OTHER_PYTHON = ROOT / ".cache/matrix/tf2.12/bin/python"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    names = [cell.name for cell in CELLS]
    parser = argparse.ArgumentParser(prog="faults.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", action="append", choices=names, metavar="CELL", help="of the cells, this one; may be repeated"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="runs of each cell (%(default)s)")
    parser.add_argument("--at-once", type=int, default=2, metavar="N", help="so many jobs side by side (%(default)s)")
    options = parser.parse_args(argv)
    for name in ("rounds", "at_once"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: expected at least 1")
    options.only = tuple(dict.fromkeys(options.only or names))
    return options


def measured(cell: Cell, output: Path, at_s: float) -> Finding:
    """`measure`, with another Python where the cell wants one."""
    if "data-python" not in cell.arguments:
        # jobs that read for some seconds read beyond a fault that comes later, however early they began
        longer = {"seconds": cell.arguments["seconds"] + at_s - _AT_S} if cell.faults and "seconds" in cell.arguments else {}
        return measure(cell, output, times={"at_s": at_s}, arguments=longer)
    if not OTHER_PYTHON.exists():
        return Finding(False, None, f"there is no {OTHER_PYTHON.relative_to(ROOT)}: make test-matrix makes it")
    return measure(cell, output, arguments={"data-python": str(OTHER_PYTHON)})


def shown(cell: Cell, value: float | None) -> str:
    """Seconds, or the part of its steps that a job must keep."""
    if value is None:
        return "-"
    return f"{100 * value:.1f} % fewer steps" if cell.must == "keep pace" else f"{value:.1f} s"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs, prints, writes. 0 if all was as it must be."""
    options = parse(argv)
    cells = [cell for cell in CELLS if cell.name in options.only]
    found: dict[str, list[Finding]] = {cell.name: [] for cell in cells}
    started = time.monotonic()
    # faults are for jobs that read already, and jobs side by side start slowly
    at_s = _AT_S * (1 + options.at_once) / 2
    # the emulator owns a process: it adopts orphans, and catches signals
    with ProcessPoolExecutor(options.at_once, multiprocessing.get_context("spawn")) as pool:
        runs = {
            pool.submit(measured, cell, CACHE / f"{cell.name}-{number + 1}", at_s): cell
            for number in range(options.rounds)
            for cell in cells
        }
        for count, run in enumerate(as_completed(runs), start=1):
            cell, one = runs[run], run.result()
            found[cell.name].append(one)
            said = "ok" if one.passed else f"FAILED: {one.text}"
            line = f"bench-faults: {count} of {len(runs)}, {cell.name}: {shown(cell, one.seconds)}, {said}"
            print(line, file=sys.stderr, flush=True)
    lines, rows = [], []
    for cell in cells:
        runs = found[cell.name]
        times = [run.seconds for run in runs if run.seconds is not None]
        worst = max(times, default=None)
        passed = sum(run.passed for run in runs)
        rows.append(
            {
                "row": cell.row,
                "cell": cell.name,
                "must": cell.must,
                "within_s": cell.within_s,
                "worst_s": worst,
                "passed": passed,
                "date": time.strftime("%Y-%m-%d"),
                "at_once": options.at_once,
                "runs": [asdict(run) for run in runs],
            }
        )
        lines.append(
            [
                cell.row,
                cell.name,
                cell.must,
                shown(cell, cell.within_s),
                shown(cell, worst),
                f"{passed} of {len(runs)}",
            ]
        )
    print(report.table(["fault", "cell", "must", "within", "worst", "passed"], lines))
    OUT.mkdir(parents=True, exist_ok=True)
    file = OUT / "faults.json"
    kept = {row["cell"]: row for row in json.loads(file.read_text())["cells"]} if file.exists() else {}
    every = {**kept, **{row["cell"]: row for row in rows}}
    result: dict[str, Any] = {
        "benchmark": "faults",
        "machine": report.machine(),
        "cells": [every[cell.name] for cell in CELLS if cell.name in every],
    }
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(f"took {time.monotonic() - started:.0f} s", file=sys.stderr)
    print(f"\nwritten to {OUT.relative_to(ROOT)}/faults.json")
    return 0 if all(row["passed"] == options.rounds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
