"""Tables, the vCPUs that a host of accelerators asks for, the chart."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

# What one host of 8 A100 takes of ResNet50, images/s (WORKLOADS.md, C: NVIDIA's published figures).
EIGHT_A100 = {"mixed precision": 17_400, "TF32": 7_000}

__all__ = ["EIGHT_A100", "bars", "draw", "machine", "table", "vcpus"]


def vcpus(images_per_s: float, images_per_cpu_s: float) -> int:
    """vCPUs that make so many images a second, if a vCPU does in a second what this machine's CPU does in a CPU-second."""
    return math.ceil(images_per_s / images_per_cpu_s)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines with the first column to the left and the others to the right; as wide as what stands in them."""
    widths = [max(len(row[place]) for row in (headings, *rows)) for place in range(len(headings))]
    lines = []
    for row in (headings, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "system": f"Linux {platform.release()}, {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("tensorflow-cpu", "tensorflow-addons", "keras", "numpy", "scikit-image")},
    }


def draw(path: Path, charts: Sequence[tuple[str, Mapping[str, tuple[float, bool]]]]) -> None:
    """Bars of images per CPU-second: of each workload its title, and by label the figure and whether it is ours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bars(charts, "images per CPU-second").save(path, optimize=True)


def bars(charts: Sequence[tuple[str, Mapping[str, tuple[float, bool]]]], heading: str) -> Image.Image:
    """The picture of it."""
    from PIL import Image, ImageDraw, ImageFont

    font, bold = ImageFont.load_default(15), ImageFont.load_default(17)
    bar, step, gap = 460, 26, 46
    left = 22 + round(max(font.getlength(label) for _, figures in charts for label in figures))
    width = max([left + bar + 110, *(round(bold.getlength(text)) + 24 for text in (heading, *(title for title, _ in charts)))])
    height = gap + sum(gap + step * len(figures) for _, figures in charts)
    page = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(page)
    pen.text((12, 12), heading, fill="black", font=bold)
    y = gap
    for title, figures in charts:
        pen.text((12, y + 8), title, fill="black", font=bold)
        y += 36
        largest = max(figure for figure, _ in figures.values())
        for label, (figure, is_ours) in figures.items():
            pen.text((left - 10 - pen.textlength(label, font=font), y + 2), label, fill="black", font=font)
            length = bar * figure / largest
            pen.rectangle((left, y + 3, left + length, y + step - 5), fill="#1f6f8b" if is_ours else "#b8bcc0")
            pen.text((left + length + 6, y + 2), f"{figure:,.0f}", fill="black", font=font)
            y += step
        y += gap - 36
    return page
