"""What the pages of plan and diagnose are made of: a document that needs no network, bars and courses drawn as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["bars", "courses", "document"]

_BAR_HEIGHT, _GAP, _LABEL, _WIDTH, _VALUE = 22, 8, 330, 420, 110
_COURSE_HEIGHT, _TICK = 70, 22
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; }
th { text-align: left; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
tr.best { background: #eaf5ee; font-weight: 600; }
ol.path { list-style: none; padding: 0; } ol.path li { border-left: 4px solid #bbb; padding: .2rem .8rem; margin: .6rem 0; }
ol.path li.yes { border-color: #2f7d4f; } ol.path li.no { border-color: #999; } ol.path li.measure { border-color: #c79a1e; }
.answer { font-weight: 600; } svg text { font: 13px system-ui, sans-serif; }
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
