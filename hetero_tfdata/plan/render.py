"""A plan as text: the table, the recommendation and why, the path through the flow chart, what was assumed."""

from __future__ import annotations

from collections.abc import Sequence

from hetero_tfdata.plan.advice import Question
from hetero_tfdata.plan.options import Option

__all__ = ["reason", "table", "text"]

_HEADINGS = ("cluster", "step, ms", "$ per hour", "$ per 1,000 steps", "against the first", "accelerators busy", "bottleneck")


def text(found: Sequence[Option], recommended: Option, path: Sequence[Question], assumptions: Sequence[str]) -> str:
    """All of it."""
    boxes = [f"{number}. {one.asked} {_ANSWERS[one.answer]} {one.told}." for number, one in enumerate(path, 1)]
    return "\n".join(
        [
            table(found, recommended),
            "",
            f"Recommended: {recommended.name}. {reason(found, recommended)}",
            "",
            *boxes,
            "",
            "Assumed:",
            *(f"- {one}" for one in assumptions),
        ]
    )


_ANSWERS = {"yes": "Yes.", "no": "No.", "measure": "To be measured."}


def table(found: Sequence[Option], recommended: Option) -> str:
    """One row a cluster, the recommended one marked."""
    lines: list[Sequence[str]] = [_HEADINGS]
    first = found[0].usd_per_1000_steps
    for one in found:
        prediction = one.prediction
        lines.append(
            (
                f"{'> ' if one == recommended else '  '}{one.name}",
                f"{prediction.step_ms:,.1f}",
                f"{one.usd_per_hour:.3f}",
                f"{one.usd_per_1000_steps:.3f}",
                f"{one.usd_per_1000_steps / first - 1:+.0%}",
                f"{prediction.accelerator_utilisation:.0%}",
                f"{prediction.bottleneck}: {prediction.limit}" if prediction.bottleneck != "accelerator" else "accelerator",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    rows = []
    for line in lines:
        cells = [
            cell.ljust(width) if column in (0, len(widths) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        rows.append("  ".join(cells).rstrip())
    return "\n".join(rows)


def reason(found: Sequence[Option], recommended: Option) -> str:
    """Why not one data host more, and why not one less."""
    count = recommended.prediction.data_instances
    same = [one for one in found if one.data == recommended.data or not one.prediction.data_instances]
    told = []
    for other, word in ((count + 1, "more"), (count - 1, "less")):
        neighbour = next((one for one in same if one.prediction.data_instances == other), None)
        if neighbour is not None:
            told.append(
                f"One data host {word}: {neighbour.prediction.step_ms:,.1f} ms a step instead of "
                f"{recommended.prediction.step_ms:,.1f}, ${neighbour.usd_per_1000_steps:.3f} per 1,000 steps instead of "
                f"${recommended.usd_per_1000_steps:.3f}."
            )
    return " ".join(told)
