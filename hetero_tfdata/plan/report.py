"""A plan as one page: self-contained HTML with its charts drawn as SVG, readable without a network, and printable."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape

from hetero_tfdata.plan.advice import EXITS, Question
from hetero_tfdata.plan.html import Box, bars, document, flow_chart
from hetero_tfdata.plan.options import Option
from hetero_tfdata.plan.render import reason

__all__ = ["page"]

_COLOURS = {"accelerator": "#2f7d4f", "cpu": "#b5541c", "network": "#3b5b92"}


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
    body = f"""<h1>Recommended: {escape(recommended.name)}</h1>
<p>{recommended.prediction.step_ms:,.1f} ms a step, ${recommended.usd_per_1000_steps:.3f} per 1,000 steps{saved}.
{escape(reason(found, recommended))}</p>
<h2>Clusters</h2>
{_table(found, recommended)}
<h2>Milliseconds a step</h2>
{bars([(one.name, one.prediction.step_ms, _COLOURS[one.prediction.bottleneck]) for one in found], "{:,.1f} ms")}
<p>{_legend()}</p>
<h2>Dollars per 1,000 steps</h2>
{bars([(one.name, one.usd_per_1000_steps, _COLOURS[one.prediction.bottleneck]) for one in found], "${:,.3f}")}
<h2>The way through the flow chart</h2>
{flow_chart(_boxes(path))}
<ol class="path">{"".join(_box(number, one) for number, one in enumerate(path, 1))}</ol>
<h2>Given</h2>
<table>{"".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in inputs.items())}</table>
<h2>Assumed</h2>
<ul>{"".join(f"<li>{escape(one)}</li>" for one in assumptions)}</ul>
<p>A prediction of <code>hetero-tfdata plan</code>, {time.strftime("%Y-%m-%d")}.</p>"""
    return document(f"hetero-tfdata plan: {found[0].train.name}", body)


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


def _legend() -> str:
    names = {"accelerator": "the accelerators decide", "cpu": "CPUs decide", "network": "links decide"}
    return " &nbsp; ".join(f'<span style="color:{_COLOURS[kind]}">&#9632;</span> {text}' for kind, text in names.items())


def _boxes(path: Sequence[Question]) -> list[Box]:
    """All questions of the chart, with the answers as far as it was gone through."""
    given = {one.asked: one.answer for one in path}
    return [Box(asked, answer, done, given.get(asked)) for asked, (answer, done) in EXITS.items()]


def _box(number: int, one: Question) -> str:
    answer = {"yes": "Yes.", "no": "No.", "measure": "To be measured."}[one.answer]
    return (
        f'<li class="{one.answer}">{number}. {escape(one.asked)} <span class="answer">{answer}</span> {escape(one.told)}.</li>'
    )
