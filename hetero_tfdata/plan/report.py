"""A plan as one page: self-contained HTML with its charts drawn as SVG, readable without a network, and printable."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape

from hetero_tfdata.plan.advice import Question
from hetero_tfdata.plan.options import Option
from hetero_tfdata.plan.render import reason

__all__ = ["page"]

_BAR_HEIGHT, _GAP, _LABEL, _WIDTH, _VALUE = 22, 8, 330, 420, 110
_COLOURS = {"accelerator": "#2f7d4f", "cpu": "#b5541c", "network": "#3b5b92"}
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


def page(
    found: Sequence[Option],
    recommended: Option,
    path: Sequence[Question],
    assumptions: Sequence[str],
    inputs: Mapping[str, str],
) -> str:
    """The HTML.

    Args:
        found: the options, the one without data hosts first.
        recommended: the best of them.
        path: through the flow chart.
        assumptions: each in words, with its source.
        inputs: what the user gave, by name.
    """
    change = 1 - recommended.usd_per_1000_steps / found[0].usd_per_1000_steps
    saved = f": {change:.0%} cheaper a step than {escape(found[0].name)}" if change > 0 else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>hetero-tfdata plan: {escape(found[0].train.name)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>
<h1>Recommended: {escape(recommended.name)}</h1>
<p>{recommended.prediction.step_ms:,.1f} ms a step, ${recommended.usd_per_1000_steps:.3f} per 1,000 steps{saved}.
{escape(reason(found, recommended))}</p>
<h2>Clusters</h2>
{_table(found, recommended)}
<h2>Milliseconds a step</h2>
{_bars([(one.name, one.prediction.step_ms, one.prediction.bottleneck) for one in found], "{:,.1f} ms")}
<p>{_legend()}</p>
<h2>Dollars per 1,000 steps</h2>
{_bars([(one.name, one.usd_per_1000_steps, one.prediction.bottleneck) for one in found], "${:,.3f}")}
<h2>The way through the flow chart</h2>
<ol class="path">{"".join(_box(number, one) for number, one in enumerate(path, 1))}</ol>
<h2>Given</h2>
<table>{"".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in inputs.items())}</table>
<h2>Assumed</h2>
<ul>{"".join(f"<li>{escape(one)}</li>" for one in assumptions)}</ul>
<p>A prediction of <code>hetero-tfdata plan</code>, {time.strftime("%Y-%m-%d")}.</p>
</body></html>
"""


def _table(found: Sequence[Option], recommended: Option) -> str:
    headings = ("cluster", "ms a step", "$ per hour", "$ per 1,000 steps", "accelerators busy", "bottleneck")
    first = "".join(f'<th class="n">{text}</th>' if 0 < n < 5 else f"<th>{text}</th>" for n, text in enumerate(headings))
    rows = []
    for one in found:
        limit = one.prediction.limit if one.prediction.bottleneck != "accelerator" else "the accelerators"
        numbers = (
            f"{one.prediction.step_ms:,.1f}",
            f"{one.usd_per_hour:.3f}",
            f"{one.usd_per_1000_steps:.3f}",
            f"{one.prediction.accelerator_utilisation:.0%}",
        )
        cells = "".join(f'<td class="n">{number}</td>' for number in numbers)
        mark = ' class="best"' if one == recommended else ""
        rows.append(f"<tr{mark}><td>{escape(one.name)}</td>{cells}<td>{escape(limit)}</td></tr>")
    return f"<table><tr>{first}</tr>{''.join(rows)}</table>"


def _bars(bars: Sequence[tuple[str, float, str]], form: str) -> str:
    longest = max(value for _, value, _ in bars) or 1.0
    height = len(bars) * (_BAR_HEIGHT + _GAP)
    parts = []
    for number, (label, value, bottleneck) in enumerate(bars):
        top = number * (_BAR_HEIGHT + _GAP)
        width, middle = _WIDTH * value / longest, top + _BAR_HEIGHT * 0.7
        parts.append(
            f'<text x="{_LABEL - 8}" y="{middle:.0f}" text-anchor="end">{escape(label)}</text>'
            f'<rect x="{_LABEL}" y="{top}" width="{width:.1f}" height="{_BAR_HEIGHT}" fill="{_COLOURS[bottleneck]}"/>'
            f'<text x="{_LABEL + width + 6:.0f}" y="{middle:.0f}">{escape(form.format(value))}</text>'
        )
    box = f"0 0 {_LABEL + _WIDTH + _VALUE} {height}"
    return f'<svg viewBox="{box}" width="100%" role="img" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'


def _legend() -> str:
    names = {"accelerator": "the accelerators decide", "cpu": "CPUs decide", "network": "links decide"}
    return " &nbsp; ".join(f'<span style="color:{_COLOURS[kind]}">&#9632;</span> {text}' for kind, text in names.items())


def _box(number: int, one: Question) -> str:
    answer = {"yes": "Yes.", "no": "No.", "measure": "To be measured."}[one.answer]
    return (
        f'<li class="{one.answer}">{number}. {escape(one.asked)} <span class="answer">{answer}</span> {escape(one.told)}.</li>'
    )
