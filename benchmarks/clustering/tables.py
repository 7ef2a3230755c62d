"""The figures of a workload as rows: step, input wait, utilisation, dollars, gain; the published row beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from augmentation.report import table

from clustering.cases import PRICES, Case, Workload, usd_per_hour

__all__ = ["charts", "label", "published_rows", "render", "rows"]

_FEEDS = {
    "plain": "in the training process",
    "published": "tf.data service as published",
    "tuned": "tf.data service, tuned",
    "ours": "distribute()",
}


def label(workload: Workload, case: Case) -> str:
    """The case in words."""
    short = workload.train_type.split(".")[1], workload.data_type.removeprefix("ml.")
    cluster = f"1 {short[0]}" + (f" + {case.data_hosts} {short[1]}" if case.data_hosts else "")
    graph = "published graph" if case.graph.endswith("published") else "batch-wise graph"
    return f"{cluster}, {graph}" + (f", {_FEEDS[case.feed]}" if case.data_hosts else "")


def rows(workload: Workload, measured: Sequence[Mapping[str, Any]], floor_ms: float, work: str) -> list[dict[str, Any]]:
    """One row a case, for one floor and one kind of client work; gains are against the first case's step at this floor.

    `measured`: for each of the workload's cases `step_ms` and so on by (floor, work), as `cluster.py` collects them.
    """
    found = []
    base: dict[str, float] = {}
    for case, figures in zip(workload.cases, measured, strict=True):
        one = figures[floor_ms, work]
        row = {"case": label(workload, case), "graph": case.graph, "feed": case.feed, "data_hosts": case.data_hosts, **one}
        row["utilisation"] = floor_ms / one["step_ms"]
        for prices in PRICES:
            hourly = usd_per_hour(workload, case.data_hosts, prices)
            dollars = None if hourly is None else hourly * one["step_ms"] / 3.6e6 * 100
            if dollars is not None:
                base.setdefault(prices, dollars)
            row[f"usd_per_100_steps_{prices}"] = dollars
            row[f"gain_{prices}"] = None if dollars is None else 1 - dollars / base[prices]
        found.append(row)
    return found


def published_rows(workload: Workload) -> list[dict[str, Any]]:
    """What was published, as rows of the same shape."""
    if workload.published is None:
        return []
    published, found = workload.published, []
    for step_ms, count in ((published.homogeneous_ms, 0), (published.heterogeneous_ms, published.data_hosts)):
        hourly = usd_per_hour(workload, count, "2022")
        assert hourly is not None
        case = Case("published", "published", count)
        row = {"case": label(workload, case).replace("published graph", "PUBLISHED").split(", tf.data")[0], "step_ms": step_ms}
        row["usd_per_100_steps_2022"] = hourly * step_ms / 3.6e6 * 100
        row["gain_2022"] = published.gain if count else 0.0
        found.append(row)
    return found


def charts(workload: Mapping[str, Any]) -> list[tuple[str, dict[str, tuple[float, bool]]]]:
    """A workload of cluster.json as titles and bars, one chart a floor: ms a step of each case, and whether it is ours."""
    found = []
    for part in workload.get("parts", ()):
        if part["work"] == "sleep":
            bars = {row["case"]: (row["step_ms"], False) for row in workload["published"]}
            bars.update({row["case"]: (row["step_ms"], row["feed"] == "ours") for row in part["rows"]})
            found.append((f"{workload['title']}, accelerator {part['floor_ms']:g} ms", bars))
    return found


def render(workload: Workload, found: Sequence[Mapping[str, Any]]) -> str:
    """The table."""
    headings = ["", "step, ms", "input wait", "accelerator", "CPU, training", "CPU, data"]
    headings += [text for prices in PRICES for text in (f"$ per 100 steps, {prices}", "gain")]
    lines = []
    for row in [*published_rows(workload), *found]:
        cores = row.get("cpu_of_quota", {})
        cells = [
            row["case"],
            f"{row['step_ms']:,.1f}" + _spread(row.get("step_ms_rounds", ())),
            _cell(row.get("input_wait_ms"), "{:,.1f}"),
            _cell(row.get("utilisation"), "{:.0%}"),
            _cell(cores.get("dnn_group"), "{:.0%}"),
            _cell(cores.get("data_group"), "{:.0%}"),
        ]
        for prices in PRICES:
            cells += [_cell(row.get(f"usd_per_100_steps_{prices}"), "{:.4f}"), _cell(row.get(f"gain_{prices}"), "{:.0%}")]
        lines.append(cells)
    text = table(headings, lines)
    together = [row for row in found if row["feed"] == "published" and row["graph"] == found[0]["graph"]]
    if workload.published and together:
        ratio = found[0]["step_ms"] / together[0]["step_ms"]
        text += f"\nhomogeneous / heterogeneous step, published graph and service: {ratio:.2f}"
        text += f" (published: {workload.published.homogeneous_ms / workload.published.heterogeneous_ms:.2f})"
    return text


def _spread(rounds: Sequence[float]) -> str:
    return f" ({min(rounds):,.1f} to {max(rounds):,.1f})" if len(rounds) > 1 else ""


def _cell(value: Any, form: str) -> str:
    return "-" if value is None else form.format(value)
