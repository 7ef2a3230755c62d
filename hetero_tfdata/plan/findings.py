"""A diagnosis to read: as text for a terminal, and as one page with the course of every host."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape

from hetero_tfdata.plan.diagnosis import Diagnosis
from hetero_tfdata.plan.html import courses, document
from hetero_tfdata.plan.observed import HostLoad, Observed

__all__ = ["page", "text"]

_FIGURES = {
    "cpu": "CPU",
    "accelerator": "GPU",
    "link": "link",
    "memory": "memory",
    "accelerator_memory": "GPU memory",
    "disk": "disk",
}
_COLOURS = {"cpu": "#b5541c", "accelerator": "#2f7d4f"}
_BAR = 20
_VERDICTS = {
    "cpu-bound": "CPU-bound: the GPUs wait for batches that CPUs make",
    "gpu-bound": "GPU-bound: the input keeps up",
    "network-bound": "network-bound: a link is full",
    "input-bound": "input-bound: the GPUs wait for batches",
    "neither": "neither: no CPU, GPU or link is known to be at its limit",
}


def text(observed: Observed, diagnosis: Diagnosis) -> str:
    """The hosts by group, the verdict and why, what to run next."""
    lines = [f"{observed.job}: {observed.source}", ""]
    lines += [*_table(observed.hosts), ""] if any(_known(one) for one in observed.hosts) else []
    lines += [f"{_VERDICTS[diagnosis.verdict]}", *(f"- {one}" for one in diagnosis.why)]
    lines += [f"warning: {one}" for one in diagnosis.warnings]
    lines += [f"note: {one}" for one in observed.notes]
    lines += ["", "Next:", diagnosis.command]
    lines += [f"  {one}" for one in diagnosis.needs]
    return "\n".join(lines)


def page(observed: Observed, diagnosis: Diagnosis) -> str:
    """The same as HTML, with charts."""
    charts = [
        courses(f"{one.host} ({one.group})" if one.group else one.host, lines, _COLOURS)
        for one in _ordered(observed.hosts)
        if (lines := {name: one.series[name] for name in _COLOURS if name in one.series})
    ]
    legend = " &nbsp; ".join(f'<span style="color:{_COLOURS[name]}">&#9632;</span> {_FIGURES[name]}' for name in _COLOURS)
    drawn = f"<h2>Over the minutes</h2><p>{legend}, of all that the host has</p>{''.join(charts)}" if charts else ""
    body = f"""<h1>{escape(observed.job)}: {escape(_VERDICTS[diagnosis.verdict])}</h1>
<p>{escape(observed.source)}</p>
<ul>{_items(diagnosis.why)}</ul>
<h2>Hosts</h2>
{_html_table(observed.hosts)}
{drawn}
<h2>To know</h2>
<ul>{_items([*diagnosis.warnings, *observed.notes]) or "<li>nothing more</li>"}</ul>
<h2>Next</h2>
<p><code>{_command(diagnosis.command)}</code></p>
<ul>{_items(diagnosis.needs)}</ul>
<p>A diagnosis of <code>hetero-tfdata diagnose</code>, {time.strftime("%Y-%m-%d")}.</p>"""
    return document(f"hetero-tfdata diagnose: {observed.job}", body)


def _command(words: str) -> str:
    """Broken between words only, not at the hyphens of its options."""
    return " ".join(f"<span>{escape(word)}</span>" for word in words.split())


def _ordered(hosts: Sequence[HostLoad]) -> list[HostLoad]:
    """By group; CloudWatch doesn't."""
    return sorted(hosts, key=lambda one: (one.group or "", int(one.host.rpartition("-")[2] or 0), one.host))


def _known(host: HostLoad) -> bool:
    return any(getattr(host, figure) is not None for figure in _FIGURES)


def _shown(hosts: Sequence[HostLoad]) -> list[str]:
    return [figure for figure in _FIGURES if any(getattr(one, figure) is not None for one in hosts)]


def _cells(host: HostLoad, figures: Sequence[str]) -> list[str]:
    values = [getattr(host, figure) for figure in figures]
    return [host.group or "?", host.host, host.instance_type or "?", *("-" if one is None else f"{one:.0%}" for one in values)]


def _table(hosts: Sequence[HostLoad]) -> list[str]:
    figures = _shown(hosts)
    rows = [["group", "host", "type", *(_FIGURES[figure] for figure in figures), ""]]
    for one in _ordered(hosts):
        busy = max((part for part in (one.cpu, one.accelerator, one.link) if part is not None), default=0.0)
        rows.append([*_cells(one, figures), "#" * round(_BAR * busy)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if 3 <= column < len(row) - 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _html_table(hosts: Sequence[HostLoad]) -> str:
    figures = _shown(hosts)
    heads = ["group", "host", "type", *(_FIGURES[figure] for figure in figures)]
    rows = [heads, *(_cells(one, figures) for one in _ordered(hosts))]
    parts = []
    for number, row in enumerate(rows):
        tag = "td" if number else "th"
        cells = [f'<{tag} class="{"n" if column > 2 else ""}">{escape(cell)}</{tag}>' for column, cell in enumerate(row)]
        parts.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(parts)}</table>"


def _items(lines: Sequence[str]) -> str:
    return "".join(f"<li>{escape(one)}</li>" for one in lines)
