"""out/bench/wire.png: the bars of the loopback, the lines of the link and of the scaling, as far as they were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from augmentation import report

from wiring import scaling

if TYPE_CHECKING:
    from PIL import Image

_WIDTH, _HEIGHT = 450, 330  # of one panel of lines
_COLOURS = {"ours": "#1f6f8b", "tcp": "#404448", "stock": "#d08a2e", "stock-uint8-none": "#d08a2e", "tuned": "#9a7fb0"}
_IDEAL = "#b8bcc0"

__all__ = ["Line", "draw", "panels"]


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        label: for the legend.
        colour: of the line.
        points: (x, y), by x.
        has_marks: a dot at each point; without, it is an ideal.
    """

    label: str
    colour: str
    points: tuple[tuple[float, float], ...]
    has_marks: bool = True


def draw(path: Path, result: Mapping[str, Any]) -> None:
    """Writes what the result holds."""
    from PIL import Image

    pages = []
    if "batches" in result:
        bars = []
        for batch, each in result["batches"].items():
            rates = {one["label"]: (one["images_per_s"], name == "ours") for name, one in each["contenders"].items()}
            bars.append((f"batches of {batch}", rates))
        pages.append(report.bars(bars, "images/s over loopback"))
    lines = [_lines(title, across, curves) for title, across, curves in panels(result)]
    for begin in range(0, len(lines), 2):
        row = Image.new("RGB", (2 * _WIDTH, _HEIGHT), "white")
        for place, panel in enumerate(lines[begin : begin + 2]):
            row.paste(panel, (place * _WIDTH, 0))
        pages.append(row)
    page = Image.new("RGB", (max(one.width for one in pages), sum(one.height for one in pages)), "white")
    y = 0
    for one in pages:
        page.paste(one, (0, y))
        y += one.height
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path, optimize=True)


def panels(result: Mapping[str, Any]) -> list[tuple[str, str, list[Line]]]:
    """Title, what runs across, and curves of each panel."""
    found = []
    if "link" in result:
        link, across = result["link"]["link"], "workers of one data host"
        contenders = result["link"]["contenders"]
        counts = list(contenders["ours"]["workers"])
        allowed = tuple((n, min(n * link["flow_bytes_per_s"], link["host_bytes_per_s"]) / 1e6) for n in counts)
        curves = [Line("the link allows", _IDEAL, allowed, has_marks=False)]
        for way, one in contenders.items():
            curves.append(Line(one["label"], _COLOURS[way], tuple((n, one["workers"][n]["bytes_per_s"] / 1e6) for n in counts)))
        found.append((f"MB/s over a link {result['link']['factor']} times slower than a VPC's", across, curves))
    if "scaling" in result:
        cells = result["scaling"]["cells"]
        most = max(cell["workers"] for cell in cells)
        for title, across, part in (
            ("batches/s of sleeping workers, 1 consumer", "workers", [cell for cell in cells if cell["consumers"] == 1]),
            (f"batches/s of {most} sleeping workers", "consumers", [cell for cell in cells if cell["workers"] == most]),
        ):
            ideal = tuple((cell[across], cell["ideal_batches_per_s"]) for cell in part)
            curves = [Line("the sleep allows", _IDEAL, ideal, has_marks=False)]
            for way, label in scaling.WAYS.items():
                points = tuple((cell[across], cell[way]["batches_per_s"]) for cell in part)
                curves.append(Line(label, _COLOURS[way], points))
            found.append((title, across, curves))
    return found


def _lines(title: str, across: str, curves: Sequence[Line]) -> Image.Image:
    from PIL import Image, ImageDraw, ImageFont

    font, bold = ImageFont.load_default(12), ImageFont.load_default(15)
    left, top, right, bottom = 50, 40, _WIDTH - 20, _HEIGHT - 50
    page = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    pen = ImageDraw.Draw(page)
    pen.text((12, 10), title, fill="black", font=bold)
    most_x = max(x for curve in curves for x, _ in curve.points)
    step = _step(max(y for curve in curves for _, y in curve.points))
    most_y = step * math.ceil(max(y for curve in curves for _, y in curve.points) / step)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x / most_x, bottom - (bottom - top) * y / most_y

    for y in range(0, most_y + 1, step):
        pen.line([place(0, y), place(most_x, y)], fill="#ececec")
        pen.text((left - 6 - pen.textlength(f"{y:,}", font=font), place(0, y)[1] - 7), f"{y:,}", fill="black", font=font)
    for x, _ in curves[0].points:
        pen.text((place(x, 0)[0] - pen.textlength(f"{x:g}", font=font) / 2, bottom + 4), f"{x:g}", fill="black", font=font)
    pen.text(((left + right - pen.textlength(across, font=font)) / 2, bottom + 22), across, fill="black", font=font)
    for number, curve in enumerate(curves):
        points = [place(x, y) for x, y in curve.points]
        pen.line(points, fill=curve.colour, width=2 if curve.has_marks else 5)
        for x, y in points if curve.has_marks else ():
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=curve.colour)
        y = bottom - 18 * (len(curves) - number) - 4
        pen.line([(right - 170, y + 8), (right - 150, y + 8)], fill=curve.colour, width=3)
        pen.text((right - 144, y), curve.label, fill="black", font=font)
    return page


def _step(most: float) -> int:
    """Between the lines of a grid of about five: 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(max(most, 1)))
    return int(next(power * part for part in (0.1, 0.2, 0.5, 1, 2) if most / (power * part) <= 6)) or 1
