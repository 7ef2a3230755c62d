"""Half an hour of faults: does anything hang, come twice, or grow?

    make soak
    python benchmarks/soak.py --minutes 5

Three data hosts and a training host with namespaces of their own; every 20 s a worker or the dispatcher is killed, or a data
host stands still or loses its link for some seconds. The third data host is left alone: its worker lives as long as the job.
Memory, file descriptors and temporary files of all servers are looked at every 5 s: the median of the last fifth of the time
against that of the second tenth. Writes out/bench/soak.json; exits 1 if a host did not end with 0, a row came twice, or memory
grew by more than a tenth.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from augmentation import report
from faulting.sampling import Sample, sampling

from hetero_tfdata.emulate import Group, Job, run

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache/bench/soak"
OUT = ROOT / "out/bench"
FIRST_S, EVERY_S = 40, 20
FAULTS = (
    "kill-worker:data_group/1",
    "freeze:5s:data_group/2",
    "kill-dispatcher",
    "cut:8s:data_group/2",
    "kill-worker:data_group/2",
    "freeze:5s:data_group/1",
)
MOST_GROWTH = 0.10
FIGURES: dict[str, Callable[[Sample], float]] = {
    "memory, MiB": lambda sample: sample.rss_mib,
    "descriptors": lambda sample: float(sample.descriptors),
    "temporary, MiB": lambda sample: sample.temporary_mib,
    "temporary files": lambda sample: float(sample.temporary_files),
}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="soak.py", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, metavar="N", help="that faults happen (%(default)s)")
    options = parser.parse_args(argv)
    if options.minutes < 2:
        parser.error("--minutes: expected at least 2")
    return options


def schedule(seconds: float) -> list[str]:
    """A fault every 20 s, in turns."""
    count = int((seconds - FIRST_S) // EVERY_S) + 1
    return [f"{FIRST_S + EVERY_S * number}s:{FAULTS[number % len(FAULTS)]}" for number in range(count)]


def growth(samples: Sequence[Sample], seconds: float, figure: Callable[[Sample], float]) -> tuple[float, float] | None:
    """Medians of a figure in the second tenth and in the last fifth of the time; None where there are no samples."""
    early = [figure(one) for one in samples if 0.1 * seconds <= one.time_s < 0.2 * seconds]
    late = [figure(one) for one in samples if 0.8 * seconds <= one.time_s < seconds]
    return (statistics.median(early), statistics.median(late)) if early and late else None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs, prints, writes. 0 if nothing hung, came twice or grew."""
    options = parse(argv)
    seconds = options.minutes * 60
    job = Job(
        groups=[Group("data_group", "ml.c5.xlarge", 3), Group("dnn_group", "ml.p3.2xlarge", 1)],
        source_dir=Path(__file__).parent / "faulting/job",
        entry_point="launcher.py",
        hyperparameters={"seconds": seconds},
    )
    CACHE.mkdir(parents=True, exist_ok=True)
    state = CACHE / "state.json"
    with sampling(state) as samples:
        result = run(
            job,
            output=CACHE / "run",
            state=state,
            timeout_s=seconds + 300,
            isolation="namespace",
            faults=schedule(seconds),
            stop_grace_s=5.0,
            stream=sys.stderr,
        )
    told = [json.loads(path.read_text()) for path in (CACHE / "run").glob("*/opt/ml/output/data/report-*.json")]
    twice = sum(one["twice"] for one in told)
    gaps = [after - before for one in told for before, after in itertools.pairwise(one["times"])]
    lines, rows = [], []
    for host, kind in sorted({(sample.host, sample.kind) for sample in samples}):
        own = [sample for sample in samples if (sample.host, sample.kind) == (host, kind)]
        processes = len({sample.pid for sample in own})
        cells: list[str] = [host, kind, str(processes)]
        row: dict[str, Any] = {"host": host, "kind": kind, "processes": processes}
        for name, figure in FIGURES.items():
            found = growth(own, seconds, figure)
            row[name] = found
            cells.append("-" if found is None else f"{found[0]:,.1f} -> {found[1]:,.1f}")
        lines.append(cells)
        rows.append(row)
    print(report.table(["host", "server", "processes", *FIGURES], lines))
    grown = [row for row in rows if row["memory, MiB"] and row["memory, MiB"][1] > row["memory, MiB"][0] * (1 + MOST_GROWTH)]
    codes = {host.name: host.exit_code for host in result.hosts}
    faults = sum(event.kind == "fault" for event in result.events)
    ok = result.exit_code == 0 and bool(told) and twice == 0 and not grown
    print(
        f"{faults} faults in {options.minutes:g} minutes; exit codes {codes}; {twice} rows twice of "
        f"{sum(one['rows'] for one in told):,}; longest time without a batch {max(gaps, default=0.0):.1f} s; "
        f"{'nothing grew' if not grown else 'memory grew: ' + str([(row['host'], row['kind']) for row in grown])}"
    )
    OUT.mkdir(parents=True, exist_ok=True)
    figures = {"exit_codes": codes, "twice": twice, "faults": faults, "longest_gap_s": max(gaps, default=None), "servers": rows}
    about = {"benchmark": "soak", "minutes": options.minutes, "date": time.strftime("%Y-%m-%d"), "machine": report.machine()}
    (OUT / "soak.json").write_text(json.dumps({**about, **figures}, indent=1) + "\n")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
