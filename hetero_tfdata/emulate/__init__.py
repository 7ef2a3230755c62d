"""A SageMaker training job, heterogeneous or not, on one machine: as plain processes, or each host with its own namespaces.

    from hetero_tfdata.emulate import Group, Job, run

    job = Job(
        groups=[Group("data_group", "ml.c5.18xlarge", 2), Group("dnn_group", "ml.p4d.24xlarge", 1)],
        source_dir="recipes/resnet50_imagenet",
        entry_point="launcher.py",
        distribution="dnn_group",
        processes_per_host=2,
    )
    result = run(job)

It knows SageMaker, not hetero_tfdata: any job's entry point runs on it. No GPU is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hetero_tfdata.emulate.channels import Channel
    from hetero_tfdata.emulate.emulator import run
    from hetero_tfdata.emulate.faults import Fault
    from hetero_tfdata.emulate.job import Group, Job
    from hetero_tfdata.emulate.summary import HostResult, Result
    from hetero_tfdata.emulate.timeline import Timeline

__all__ = ["Channel", "Fault", "Group", "HostResult", "Job", "Result", "Timeline", "run"]

# Resolved when first used: every emulated host and rank is a process that imports this package.
_HOMES = {
    "Channel": "channels",
    "Fault": "faults",
    "Group": "job",
    "HostResult": "summary",
    "Job": "job",
    "Result": "summary",
    "Timeline": "timeline",
    "run": "emulator",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r} (public names: {', '.join(__all__)})")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
