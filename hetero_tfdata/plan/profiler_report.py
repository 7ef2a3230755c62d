"""SageMaker Debugger's profiler report: what it adds to a host's load.

The rule OverallSystemUsage writes, among the report's JSON files, percentiles of each node: {"Details": {"CPU": {"algo-1":
{"p50": ...}}, "GPU": ..., "Network": ..., "CPU memory": ..., "GPU memory": ..., "I/O": ...}}. CPU and GPU are percentages,
divided by the number of differently named cores or GPUs in the whole job, so of the largest host; Network is bytes a second,
received and sent together.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.plan.observed import HostLoad, Observed

__all__ = ["FILE", "added", "observe", "parsed"]

FILE = "OverallSystemUsage.json"
_FIGURES = {"cpu": "CPU", "accelerator": "GPU", "memory": "CPU memory", "accelerator_memory": "GPU memory"}
_NETWORK = "Network"


def parsed(report: Any, source: str) -> Mapping[str, Mapping[str, float]]:
    """Figure as the report names it -> node -> median.

    Raises:
        ConfigurationError: it is no such report.
    """
    try:
        found = {
            figure: {node: float(values["p50"]) for node, values in nodes.items()}
            for figure, nodes in report["Details"].items()
            if figure in (*_FIGURES.values(), _NETWORK)
        }
        if not found.get("CPU") or not all(math.isfinite(value) for nodes in found.values() for value in nodes.values()):
            raise ValueError("no CPU figures")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(
            f"{source}: expected {FILE} of SageMaker Debugger's profiler report: {type(error).__name__}: {error}"
        ) from None
    return found


def added(hosts: Sequence[HostLoad], report: Mapping[str, Mapping[str, float]]) -> list[HostLoad]:
    """The hosts with their links, and with what else they had no figure of."""
    vcpus = [one.instance.vcpu for one in hosts if one.instance and one.instance.vcpu]
    gpus = [one.instance.accelerators for one in hosts if one.instance and one.instance.accelerators]
    most = {"cpu": max(vcpus, default=0), "accelerator": max(gpus, default=0)}
    most["accelerator_memory"] = most["accelerator"]
    found = []
    for one in hosts:
        figures: dict[str, Any] = {}
        known = one.instance
        own = {"cpu": known.vcpu, "accelerator": known.accelerators} if known else {}
        own["accelerator_memory"] = own.get("accelerator")
        for figure, name in _FIGURES.items():
            value = report.get(name, {}).get(one.host)
            if value is None or getattr(one, figure) is not None:
                continue
            count = own.get(figure)
            figures[figure] = min(1.0, value / 100 * (most[figure] / count if count and most.get(figure) else 1.0))
        bytes_per_s = report.get(_NETWORK, {}).get(one.host)
        if bytes_per_s is not None and known is not None and known.baseline_gbps:
            figures["link"] = min(1.0, bytes_per_s * 8 / (known.baseline_gbps * 1e9))
        found.append(replace(one, **figures))
    return found


def observe(path: Path) -> Observed:
    """A report alone: its nodes, of whose types nothing is known.

    Raises:
        ConfigurationError: it can't be read, or is no such report.
    """
    place = path / FILE if path.is_dir() else path
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{place}: expected {FILE} of SageMaker Debugger's profiler report: {error}") from None
    report = parsed(content, str(place))
    hosts = added([HostLoad(node, None, None) for node in sorted(report["CPU"])], report)
    notes = (
        "the report tells no instance types: in a heterogeneous cluster the CPUs of smaller hosts look less busy than they "
        "are, and links are left out; give --training-job for both",
    )
    return Observed(place.parent.name, f"SageMaker Debugger's profiler report {place}", tuple(hosts), None, notes)
