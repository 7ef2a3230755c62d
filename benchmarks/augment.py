"""What the augmentation graphs cost, beside what others pay for the same: images per CPU-second and per second.

    make bench-augment
    python benchmarks/augment.py --only imagenet --rounds 3

Each contender runs in a process of its own, one at a time, in turns; CPU seconds are user + system of all its threads, tf.data
and DALI have all CPUs. Figures are medians over the rounds, ratios medians of each round's ratio. Writes out/bench/augment.json
and out/bench/augment.png. About ten minutes on two CPUs; the first run also makes photographs and DALI's environment.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from augmentation import memory, photographs, report
from augmentation.environment import dali_python
from augmentation.measure import ProcessFailed, rates, ratio, run_module, run_rounds, say
from augmentation.workloads import Workload, all_workloads

CACHE = photographs.ROOT / ".cache/bench"
OUT = photographs.ROOT / "out/bench"
PARTS = ("cifar", "imagenet", "randaugment", "quality", "memory")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="augment.py", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each contender (%(default)s)")
    parser.add_argument("--only", action="append", choices=PARTS, help="of the parts, this one; may be repeated")
    parser.add_argument("--images", type=int, default=512, metavar="N", help="photographs (%(default)s)")
    parser.add_argument("--no-dali", action="store_true", help="leave DALI out, and its environment unmade")
    options = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {options.rounds}")
    if options.images < 256:
        parser.error(f"--images: expected at least 256, one batch, got {options.images}")
    options.only = tuple(dict.fromkeys(options.only or PARTS))
    return options


def measure(workload: Workload, rounds: int, dali: Path | None) -> dict[str, Any]:
    """Its figures, its table printed."""
    if dali is None:
        workload = workload.without_dali()
    turns, facts = run_rounds(workload.name, workload.contenders, rounds, dali=dali, logs=CACHE / "logs")
    figures: dict[str, Any] = {}
    for contender in workload.contenders:
        figures[contender.name] = {"label": contender.label, **rates(turns[contender.name]), **facts[contender.name]}
        figures[contender.name].pop("ready")
    if workload.name == "imagenet":
        for one in figures.values():
            one["vcpus_for_8_a100"] = {
                name: report.vcpus(images, one["images_per_cpu_s"]) for name, images in report.EIGHT_A100.items()
            }
    ratios = [{"ours": a, "theirs": b, **ratio(turns[a], turns[b])} for a, b in workload.comparisons]
    print(f"\n{workload.title}")
    print(_rates_table(figures), _ratios_table(ratios, figures), sep="\n\n")
    return {"title": workload.title, "contenders": figures, "ratios": ratios}


def _rates_table(figures: dict[str, Any]) -> str:
    headings = ["", "output", "images per CPU-s", "images/s"]
    with_hosts = any("vcpus_for_8_a100" in one for one in figures.values())
    if with_hosts:
        headings += [f"vCPUs for 8 A100, {name}" for name in report.EIGHT_A100]
    rows = []
    for one in figures.values():
        row = [one["label"], one["dtype"], f"{one['images_per_cpu_s']:,.0f}", f"{one['images_per_s']:,.0f}"]
        rows.append(row + ([f"{count:,}" for count in one["vcpus_for_8_a100"].values()] if with_hosts else []))
    return report.table(headings, rows)


def _ratios_table(ratios: Sequence[dict[str, Any]], figures: dict[str, Any]) -> str:
    rows = [
        [
            f"{figures[one['ours']]['label']} / {figures[one['theirs']]['label']}",
            f"{one['per_cpu_s']:.2f}",
            f"{one['min']:.2f} to {one['max']:.2f}",
            f"{one['per_s']:.2f}",
        ]
        for one in ratios
    ]
    return report.table(["images per CPU-second, ours / theirs", "median", "rounds", "per second"], rows)


def compare_quality(folder: Path, dali: Path | None) -> dict[str, Any]:
    """PSNR of the fast decoding against the exact one, its table printed."""
    saved = []
    for dct in ("fast", "exact") if dali else ():
        assert dali is not None
        saved.append(CACHE / f"dali-{dct}.npy")
        where = ["--dct", dct, "--dtype", "uint8", "--save", str(saved[-1])]
        run_module(dali, "augmentation.dali_peer", str(folder), *where)
    say("quality: decoding the same crops twice")
    result: dict[str, Any] = json.loads(run_module(Path(sys.executable), "augmentation.quality", str(folder), *map(str, saved)))
    rows = [
        [
            name,
            *("equal" if one[key] is None else f"{one[key]:.1f}" for key in ("median_db", "min_db")),
            f"{one['largest_difference']}",
        ]
        for name, one in result["fast_against_exact"].items()
    ]
    print("\nFast decoding against exact, the same crops at 224x224")
    print(report.table(["", "PSNR median, dB", "lowest, dB", "largest difference, grey levels"], rows))
    areas = ", ".join(f"{name} {area:.2f}" for name, area in result["mean_crop_area"].items())
    print(f"Mean area of the crops as a part of the image: {areas}")
    return result


def compare_memory(folder: Path) -> dict[str, Any]:
    """Peak memory of each preset above its input's, its table printed; a preset that fails is named and left out."""
    result: dict[str, Any] = {}
    for case in memory.all_cases():
        say(f"memory: {case.name}")
        try:
            result[case.name] = memory.measure(case, folder, CACHE / "logs")
        except ProcessFailed as error:
            say(f"memory: {case.name} is left out: {error}")
    rows = [
        [name, f"{one['batches']:.1f}", f"{one['fixed_mib']:.0f}", f"{one['sizes'][1]:,}", f"{one['at_larger']:.1f}"]
        for name, one in result.items()
    ]
    print("\nPeak memory above the input's own")
    print(report.table(["", "batches", "and fixed, MiB", "in batches of", "both, in batches"], rows))
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, writes. Its exit code."""
    options = parse(argv)
    started = time.monotonic()
    folder = CACHE / "photographs"
    made = photographs.make(folder, options.images)
    wants_dali = not options.no_dali and {"imagenet", "quality"} & set(options.only)
    dali = dali_python(CACHE / "dali") if wants_dali else None
    arguments = sys.argv[1:] if argv is None else list(argv)
    result: dict[str, Any] = {
        "benchmark": "augment",
        "command": shlex.join(["python", "benchmarks/augment.py", *arguments]) if arguments else "make bench-augment",
        "date": time.strftime("%Y-%m-%d"),
        "machine": report.machine(),
        "rounds": options.rounds,
        "photographs": made,
        "workloads": {},
    }
    for workload in all_workloads(folder):
        if workload.name in options.only:
            result["workloads"][workload.name] = measure(workload, options.rounds, dali)
    if "quality" in options.only:
        result["quality"] = compare_quality(folder, dali)
    if "memory" in options.only:
        photographs.make_frames(folder / photographs.FRAMES, 64)
        result["memory"] = compare_memory(folder)
    result["took_s"] = round(time.monotonic() - started)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "augment.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nvCPUs: as if a vCPU did in a second what this machine's CPU ({result['machine']['cpu']}) does in a CPU-second")
    print(f"written to {OUT.relative_to(photographs.ROOT)}/augment.json", end="")
    if result["workloads"]:
        charts = [
            (
                one["title"],
                {f["label"]: (f["images_per_cpu_s"], name.startswith("ours")) for name, f in one["contenders"].items()},
            )
            for one in result["workloads"].values()
        ]
        report.draw(OUT / "augment.png", charts)
        print(" and augment.png", end="")
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
