"""How fast batches cross from workers to a trainer, what that costs, and how it grows with the workers.

    make bench-wire
    python benchmarks/wire.py --only link --rounds 1
    python benchmarks/wire.py --only loopback --batch 256

Three parts:
- loopback: decoded photographs at full speed. Each contender is two processes, a sender (one tf.data service worker, or a
  socket) and a receiver, which take turns with the others; nothing is decoded meanwhile.
- link: 1 to 8 workers of a data host over a VPC's link in slow motion (wiring/link.py says what is slow and what is not).
- scaling: 1 to 16 workers and consumers on pipelines that sleep, and the cost of a batch beside its bytes (wiring/scaling.py).

Figures are medians over the rounds, ratios medians of each round's ratio. Writes out/bench/wire.json and wire.png, with the
parts that ran. About ten minutes on two CPUs; the first run also makes photographs.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

from augmentation import photographs, report
from wiring import chart, link, pixels, rounds, scaling
from wiring.contenders import CONTENDERS

CACHE = photographs.ROOT / ".cache/bench"
OUT = photographs.ROOT / "out/bench"
BATCHES = (64, 256)
IMAGES = 256  # sent again and again
PARTS = {"loopback": 5, "link": 3, "scaling": 3}  # and their rounds


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="wire.py", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=PARTS, help="of the parts, this one; may be repeated")
    usual = ", ".join(f"{part} {rounds}" for part, rounds in PARTS.items())
    parser.add_argument("--rounds", type=int, metavar="N", help=f"turns of each contender ({usual})")
    parser.add_argument(
        "--batch", action="append", type=int, choices=BATCHES, help="of loopback's sizes, this one; may be repeated"
    )
    options = parser.parse_args(argv)
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {options.rounds}")
    options.batch = tuple(dict.fromkeys(options.batch or BATCHES))
    # in their order, whatever the order of the options
    options.rounds = {part: options.rounds or usual for part, usual in PARTS.items() if part in (options.only or PARTS)}
    return options


def say(line: str) -> None:
    """A line of progress, on standard error."""
    print(f"bench-wire: {line}", file=sys.stderr, flush=True)


def measure(batch: int, count: int) -> dict[str, Any]:
    """Its figures, its tables printed."""
    turns = rounds.run(CONTENDERS, batch, count, CACHE / f"decoded-{IMAGES}.raw", CACHE / "logs", say)
    found = {way.name: rounds.figures(way, turns[way.name]) for way in CONTENDERS}
    mixed = report.EIGHT_A100["mixed precision"]
    for one in found.values():
        one["client_vcpus_for_8_a100"] = report.vcpus(mixed, 1e6 / one["client_us_per_image"])
    better = max(("stock-uint8-auto", "stock-uint8-none"), key=lambda name: found[name]["images_per_s"])
    ratios = [rounds.ratio(turns, "ours", theirs) for theirs in ("stock-float32", better, "horovod", "tuned", "tcp")]
    rows = [
        [
            one["label"],
            f"{one['images_per_s']:,.0f}",
            f"{one['gb_per_s']:.2f}",
            f"{one['client_cpu_s_per_gb']:.2f}",
            f"{one['worker_cpu_s_per_gb']:.2f}",
            f"{one['client_us_per_image']:.0f}",
            f"{one['client_vcpus_for_8_a100']}",
        ]
        for one in found.values()
    ]
    headings = ["", "images/s", "GB/s", "client CPU-s/GB", "worker CPU-s/GB", "client us/image", f"vCPUs for {mixed:,}/s"]
    print(f"\nBatches of {batch} x 224x224x3")
    print(report.table(headings, rows), end="\n\n")
    rows = [
        [
            f"distribute() / {found[one['theirs']]['label']}",
            f"{one['images_per_s']:.2f}",
            f"{one['min']:.2f} to {one['max']:.2f}",
            f"{one['client_cpu']:.2f}",
        ]
        for one in ratios
    ]
    print(report.table(["ratio, round by round", "images/s", "rounds", "client CPU per image"], rows))
    return {"contenders": found, "ratios": ratios, "better_uint8": better}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, writes. Its exit code."""
    options = parse(argv)
    started = time.monotonic()
    arguments = sys.argv[1:] if argv is None else list(argv)
    result: dict[str, Any] = {
        "benchmark": "wire",
        "command": shlex.join(["python", "benchmarks/wire.py", *arguments]) if arguments else "make bench-wire",
        "date": time.strftime("%Y-%m-%d"),
        "machine": report.machine(),
    }
    for part, count in options.rounds.items():
        if part == "loopback":
            pixels.make(CACHE / f"decoded-{IMAGES}.raw", CACHE / "photographs", IMAGES)
            result["rounds"] = count
            result["batches"] = {batch: measure(batch, count) for batch in options.batch}
        elif part == "link":
            photos = CACHE / f"decoded-{link.BATCH}.raw"
            pixels.make(photos, CACHE / "photographs", link.BATCH)
            result["link"] = link.measure(count, photos, CACHE / "logs", say)
            link.print_tables(result["link"])
        else:
            result["scaling"] = scaling.measure(count, CACHE / "logs", say)
            scaling.print_tables(result["scaling"])
    result["took_s"] = round(time.monotonic() - started)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "wire.json").write_text(json.dumps(result, indent=1) + "\n")
    chart.draw(OUT / "wire.png", result)
    if "batches" in result:
        print(f"\nvCPUs: of the trainer's host, as if a vCPU did what this machine's CPU ({result['machine']['cpu']}) does")
    print(f"written to {OUT.relative_to(photographs.ROOT)}/wire.json and wire.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
