"""What the pages of plan and diagnose are made of: a document that needs no network, bars and courses drawn as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Box", "bars", "courses", "document", "flow_chart"]

_BAR_HEIGHT, _GAP, _LABEL, _WIDTH, _VALUE = 22, 8, 330, 420, 110
_COURSE_HEIGHT, _TICK = 70, 22
_BOX_WIDTH, _BOX_HEIGHT, _BETWEEN, _EXIT_WIDTH = 330, 40, 34, 250
_TAKEN, _LEFT, _OPEN = "#2f7d4f", "#bbb", "#c79a1e"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; }
th { text-align: left; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
tr.best { background: #eaf5ee; font-weight: 600; }
ol.path { list-style: none; padding: 0; } ol.path li { border-left: 4px solid #bbb; padding: .2rem .8rem; margin: .6rem 0; }
ol.path li.yes { border-color: #2f7d4f; } ol.path li.no { border-color: #999; } ol.path li.measure { border-color: #c79a1e; }
.answer { font-weight: 600; } code span { white-space: nowrap; } svg text { font: 13px system-ui, sans-serif; }
@media print { body { margin: 0; max-width: none; } h2 { break-after: avoid; } table, svg, li { break-inside: avoid; } }
"""


def document(title: str, body: str) -> str:
    """A page, self-contained."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>
{body}
</body></html>
"""


def bars(rows: Sequence[tuple[str, float, str]], form: str) -> str:
    """Bars below each other: of each its label, its value and its colour; `form` writes the value."""
    longest = max(value for _, value, _ in rows) or 1.0
    height = len(rows) * (_BAR_HEIGHT + _GAP)
    parts = []
    for number, (label, value, colour) in enumerate(rows):
        top = number * (_BAR_HEIGHT + _GAP)
        width, middle = _WIDTH * value / longest, top + _BAR_HEIGHT * 0.7
        parts.append(
            f'<text x="{_LABEL - 8}" y="{middle:.0f}" text-anchor="end">{escape(label)}</text>'
            f'<rect x="{_LABEL}" y="{top}" width="{width:.1f}" height="{_BAR_HEIGHT}" fill="{colour}"/>'
            f'<text x="{_LABEL + width + 6:.0f}" y="{middle:.0f}">{escape(form.format(value))}</text>'
        )
    box = f"0 0 {_LABEL + _WIDTH + _VALUE} {height}"
    return f'<svg viewBox="{box}" width="100%" role="img" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'


def courses(label: str, lines: Mapping[str, Sequence[tuple[float, float]]], colours: Mapping[str, str]) -> str:
    """Parts from 0 to 1 over minutes: of each line its points, in the colour of its name."""
    last = max((minute for points in lines.values() for minute, _ in points), default=0.0) or 1.0
    drawn = []
    for name, points in lines.items():
        places = " ".join(
            f"{_LABEL + _WIDTH * minute / last:.1f},{_COURSE_HEIGHT * (1 - min(1.0, part)) + 2:.1f}" for minute, part in points
        )
        drawn.append(f'<polyline points="{places}" fill="none" stroke="{colours[name]}" stroke-width="1.5"/>')
    box = f"0 0 {_LABEL + _WIDTH + _VALUE} {_COURSE_HEIGHT + _TICK}"
    floor = _COURSE_HEIGHT + 2
    return (
        f'<svg viewBox="{box}" width="100%" role="img" xmlns="http://www.w3.org/2000/svg">'
        f'<rect x="{_LABEL}" y="2" width="{_WIDTH}" height="{_COURSE_HEIGHT}" fill="#f6f6f6"/>'
        f'<text x="{_LABEL - 8}" y="{floor / 2 + 4:.0f}" text-anchor="end">{escape(label)}</text>'
        f'<text x="{_LABEL + _WIDTH + 6}" y="14">100 %</text><text x="{_LABEL + _WIDTH + 6}" y="{floor}">0</text>'
        f'<text x="{_LABEL + _WIDTH}" y="{floor + 16}" text-anchor="end">{last:,.3g} min</text>{"".join(drawn)}</svg>'
    )


@dataclass(frozen=True)
class Box:
    """A question of a flow chart.

    Attributes:
        asked: the question.
        exit_answer: "yes" or "no": the answer that leads out of the chart, to the right.
        exit_text: what is done then.
        answer: "yes", "no" or "measure", the one that was given; None: the question was not reached.
    """

    asked: str
    exit_answer: str
    exit_text: str
    answer: str | None


def flow_chart(boxes: Sequence[Box]) -> str:
    """Questions below each other, each with its way out to the right; the way that was taken in green, what has to be measured
    first in yellow."""
    parts = []
    for number, box in enumerate(boxes):
        top = 2 + number * (_BOX_HEIGHT + _BETWEEN)
        middle, bottom = top + _BOX_HEIGHT / 2, top + _BOX_HEIGHT
        out, right = box.answer == box.exit_answer, 2 + _BOX_WIDTH
        reached = _LEFT if box.answer is None else _OPEN if box.answer == "measure" else _TAKEN
        parts.append(_rectangle(2, top, _BOX_WIDTH, box.asked, reached))
        parts.append(_arrow(right, middle, right + 70, middle, box.exit_answer, _TAKEN if out else _LEFT))
        parts.append(_rectangle(right + 70, top, _EXIT_WIDTH, box.exit_text, _TAKEN if out else _LEFT))
        if number < len(boxes) - 1:
            other = "no" if box.exit_answer == "yes" else "yes"
            onward = boxes[number + 1].answer is not None and not out
            parts.append(
                _arrow(2 + _BOX_WIDTH / 2, bottom, 2 + _BOX_WIDTH / 2, bottom + _BETWEEN, other, _TAKEN if onward else _LEFT)
            )
    height = len(boxes) * (_BOX_HEIGHT + _BETWEEN)
    box_of_view = f"0 0 {_BOX_WIDTH + 70 + _EXIT_WIDTH + 6} {height}"
    return f'<svg viewBox="{box_of_view}" width="85%" role="img" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'


def _rectangle(left: float, top: float, width: float, text: str, colour: str) -> str:
    x, y = left + width / 2, top + _BOX_HEIGHT / 2 + 5
    return (
        f'<rect x="{left}" y="{top}" width="{width}" height="{_BOX_HEIGHT}" rx="6" fill="#fff" stroke="{colour}" '
        f'stroke-width="2"/><text x="{x}" y="{y}" text-anchor="middle">{escape(text)}</text>'
    )


def _arrow(x: float, y: float, to_x: float, to_y: float, text: str, colour: str) -> str:
    if to_y > y:
        head, label = f"{to_x - 5},{to_y - 8} {to_x + 5},{to_y - 8} {to_x},{to_y}", (x + 8, (y + to_y) / 2 + 4)
    else:
        head, label = f"{to_x - 8},{to_y - 5} {to_x - 8},{to_y + 5} {to_x},{to_y}", (x + 12, y - 5)
    return (
        f'<line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" stroke="{colour}" stroke-width="2"/>'
        f'<polygon points="{head}" fill="{colour}"/><text x="{label[0]}" y="{label[1]}">{text}</text>'
    )
