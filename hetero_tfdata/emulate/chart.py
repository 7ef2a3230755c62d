"""timeline.png: a row for each host, CPU of its quota, link and step time over one time axis, faults marked.

Drawn with Pillow, which is light and has no window; without it a run is as it is, with timeline.csv.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hetero_tfdata.emulate.course import MAX_RUNTIME, STOP
from hetero_tfdata.emulate.rows import Row, Strip, rows, short, span_s

if TYPE_CHECKING:
    from hetero_tfdata.emulate.summary import Result

__all__ = ["draw", "write"]

# Pixels; drawn at twice the size and halved, for smooth lines.
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 1240, 150, 230, 62, 40
_ROW_GAP, _STRIP_GAP, _CPU_HEIGHT, _HEIGHT = 22, 6, 58, 40
_FINE = 2
_COLOURS = {"CPU": "#1f6f8b", "sent": "#d08a2e", "received": "#5d6d3f", "step": "#8a62ad"}
_FAULT = "#c23b3b"
_CPU_FILL, _FAULT_FILL, _PAPER, _GRID, _INK, _FAINT = "#8fbccb", "#f3c9c4", "#f7f7f7", "#dddddd", "#222222", "#777777"


def write(path: Path, result: Result) -> str | None:
    """Draws the chart; why it could not, if so: a run is as good without."""
    try:
        from PIL import ImageFont
    except ImportError:
        return "no chart without Pillow: pip install 'hetero-tfdata[emulate]'"
    if "size" not in inspect.signature(ImageFont.load_default).parameters:
        return "no chart with this Pillow, it needs 10.1: pip install --upgrade 'hetero-tfdata[emulate]'"
    try:
        draw(path, result)
    except (ImportError, OSError) as error:  # Pillow without FreeType, a full disk
        return f"no chart: {error}"
    return None


def draw(path: Path, result: Result) -> None:
    """Draws the chart with Pillow; nothing where no host was started."""
    if any(result.timeline.samples.values()):
        _Page(result, rows(result)).save(path)


def _tick_s(seconds: float) -> float:
    """Between the marks of the time axis: about ten of them."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    return next((step for step in steps if seconds / step <= 12), math.ceil(seconds / 12 / 3600) * 3600)


class _Page:
    """The image; coordinates are those of the finished one."""

    def __init__(self, result: Result, shown: list[Row]) -> None:
        from PIL import Image, ImageDraw, ImageFont

        heights = [_row_height(row) for row in shown]
        self._height = round(_TOP + sum(heights) + _ROW_GAP * len(shown) + _BOTTOM)
        self._image = Image.new("RGB", (_WIDTH * _FINE, self._height * _FINE), "white")
        self._pen: Any = ImageDraw.Draw(self._image)
        self._font = ImageFont.load_default(11 * _FINE)
        self._bold = ImageFont.load_default(14 * _FINE)
        begin_s, end_s = span_s(result)
        self._seconds = end_s - begin_s
        self._legend(result, shown)
        y = float(_TOP)
        for row, height in zip(shown, heights, strict=True):
            self._row(row, y, height)
            y += height + _ROW_GAP
        self._axis(y - _ROW_GAP + 4)
        self._stops(result, begin_s, y - _ROW_GAP)

    def save(self, path: Path) -> None:
        from PIL import Image

        self._image.resize((_WIDTH, self._height), Image.Resampling.LANCZOS).save(path, optimize=True)

    def _legend(self, result: Result, shown: list[Row]) -> None:
        failed = sum(row.exit_code != 0 for row in shown)
        ended = f"{failed} of {len(shown)} hosts failed" if failed else "all hosts exited with 0"
        self._text(12, 10, f"{len(shown)} hosts, {self._seconds:,.0f} s, {ended}", font=self._bold)
        names = {strip.name for row in shown for strip in row.strips}
        x = float(_LEFT)
        for what, text, needs in (
            ("CPU", "CPU (top of the axis: the quota, if there is one)", "CPU"),
            ("sent", "sent", "link"),
            ("received", "received", "link"),
            ("step", "step time", "step"),
        ):
            if needs in names:
                self._line([(x, 42), (x + 18, 42)], _COLOURS[what], 3)
                x = self._text(x + 24, 35, text) + 22
        if any(row.faults for row in shown):
            self._box(x, 36, x + 18, 48, _FAULT_FILL)
            self._line([(x, 36), (x, 48)], _FAULT, 2)
            self._text(x + 24, 35, "fault")

    def _row(self, row: Row, top: float, height: float) -> None:
        y = top
        places = []
        for strip in row.strips:
            bottom = y + (_CPU_HEIGHT if strip.name == "CPU" else _HEIGHT)
            self._box(_LEFT, y, _WIDTH - _RIGHT, bottom, _PAPER)
            places.append((strip, y, bottom))
            y = bottom + _STRIP_GAP
        for fault in row.faults:
            self._box(self._x(fault.begin_s), top, self._x(fault.end_s), top + height, _FAULT_FILL)
        for strip, strip_top, bottom in places:
            self._strip(strip, strip_top, bottom)
        labelled = -math.inf
        lift = 0
        for fault in sorted(row.faults, key=lambda fault: fault.begin_s):
            x = self._x(fault.begin_s)
            self._line([(x, top), (x, top + height)], _FAULT, 1.5)
            lift = (lift + 1) % 3 if x < labelled else 0  # one below the other where they would meet
            labelled = max(labelled, self._text(x + 3, top + 1 + 12 * lift, fault.name, _FAULT) + 4)
        self._text(12, top, row.host, font=self._bold)
        self._text(12, top + 18, row.group, _INK)
        self._text(12, top + 32, row.instance_type, _FAINT)
        self._text(12, top + 46, f"exit code {row.exit_code}", _FAULT if row.exit_code else _FAINT)

    def _strip(self, strip: Strip, top: float, bottom: float) -> None:
        def place(value: float) -> float:
            return bottom - (bottom - top) * min(value / strip.most, 1.0)

        self._line([(_LEFT, bottom), (_WIDTH - _RIGHT, bottom)], _GRID, 1)
        if strip.limit is not None and strip.limit <= strip.most:
            self._line([(_LEFT, place(strip.limit)), (_WIDTH - _RIGHT, place(strip.limit))], _FAINT, 1)
        for what, values in strip.curves:
            outline = [point for begin, end, value in values for point in ((begin, value), (end, value))]
            points = [(self._x(moment), place(value)) for moment, value in outline]
            if points and strip.name == "CPU":
                self._polygon([(points[0][0], bottom), *points, (points[-1][0], bottom)], _CPU_FILL)
            self._line(points, _COLOURS[what], 1.5)
        for moment, value in strip.dots:
            x, y = self._x(moment), place(value)
            self._box(x - 1, y - 1, x + 1, y + 1, _COLOURS["step"])
        most = f"{short(strip.most)} {strip.unit}"
        self._text(_LEFT - 8, top - 2, most, _FAINT, right=True)
        right = _WIDTH - _RIGHT + 10
        for number, line in enumerate((f"{strip.name}: {strip.text[0]}", *strip.text[1:])):
            self._text(right, top + 14 * number, line, _FAINT if number else _INK)

    def _axis(self, y: float) -> None:
        step = _tick_s(self._seconds)
        for number in range(int(self._seconds / step) + 1):
            x = self._x(number * step)
            self._line([(x, y), (x, y + 4)], _FAINT, 1)
            text = f"{number * step:g} s"
            self._text(x - self._pen.textlength(text, font=self._font) / _FINE / 2, y + 6, text, _FAINT)

    def _stops(self, result: Result, begin_s: float, bottom: float) -> None:
        for event in result.events:
            if event.kind == "stopped":
                x = self._x(event.time_s - begin_s)
                self._line([(x, _TOP - 6), (x, bottom)], _INK, 1.5)
                asked = result.ended_by in (STOP, MAX_RUNTIME)
                is_late = x > _WIDTH - _RIGHT - 120  # no room on the right
                self._text(x - 3 if is_late else x + 3, _TOP - 14, event.text, _INK if asked else _FAULT, right=is_late)

    def _x(self, moment: float) -> float:
        part = min(max(moment / self._seconds, 0.0), 1.0)
        return _LEFT + (_WIDTH - _RIGHT - _LEFT) * part

    def _text(self, x: float, y: float, text: str, colour: str = _INK, *, font: Any = None, right: bool = False) -> float:
        """Draws it; where it ends."""
        font = font or self._font
        length = self._pen.textlength(text, font=font) / _FINE
        x = x - length if right else x
        self._pen.text((x * _FINE, y * _FINE), text, fill=colour, font=font)
        return x + length

    def _line(self, points: Sequence[tuple[float, float]], colour: str, width: float) -> None:
        if len(points) > 1:
            self._pen.line([(x * _FINE, y * _FINE) for x, y in points], fill=colour, width=round(width * _FINE), joint="curve")

    def _polygon(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        self._pen.polygon([(x * _FINE, y * _FINE) for x, y in points], fill=colour)

    def _box(self, left: float, top: float, right: float, bottom: float, colour: str) -> None:
        if right > left:
            self._pen.rectangle([left * _FINE, top * _FINE, right * _FINE, bottom * _FINE], fill=colour)


def _row_height(row: Row) -> float:
    strips = sum(_CPU_HEIGHT if strip.name == "CPU" else _HEIGHT for strip in row.strips)
    return max(62, strips + _STRIP_GAP * (len(row.strips) - 1))
