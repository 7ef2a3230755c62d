"""What the preflight is told of the job, and what it says of one operation of a dataset, as values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hetero_tfdata.cluster.instances import instance
from hetero_tfdata.cluster.topology import Cluster, Role
from hetero_tfdata.service.custom_ops import PRELOADED_VARIABLE, is_installed
from hetero_tfdata.service.functions import Functions
from hetero_tfdata.service.supervisor import usable_cpus, worker_count

__all__ = ["Finding", "Job", "Needs", "host_memory_bytes", "known_preloads"]


def host_memory_bytes() -> int | None:
    """The memory of this host; None where the system doesn't say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def known_preloads(*modules: str) -> tuple[str, ...]:
    """Those modules, what `launch --preload` names, and TensorFlow Addons, which servers load where it is installed."""
    named = os.environ.get(PRELOADED_VARIABLE, "").split(",")
    addons = ("tensorflow_addons",) if is_installed("tensorflow_addons") else ()
    return (*modules, *filter(None, named), *addons)


@dataclass(frozen=True)
class Finding:
    """One thing that the user should know before the dataset runs on other hosts.

    Attributes:
        code: its short name, which stays: "take-per-worker".
        operation: the operation as the user wrote it: "take(10)", "map(decode)".
        meaning: what it comes to on several workers.
        way_out: what to write instead.
        refused: it can't run there, or would abort or hang; all others are warnings.
    """

    code: str
    operation: str
    meaning: str
    way_out: str
    refused: bool = False

    def __str__(self) -> str:
        return f"{self.code}: {self.operation}: {self.meaning}. Instead: {self.way_out}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Needs:
    """What a worker has to import before it can run the graph.

    Attributes:
        libraries: module -> the custom operations of it that the graph names.
        functions: the graph's Python functions; None: it has none.
    """

    libraries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    functions: Functions | None = None


@dataclass(frozen=True)
class Job:
    """Where the dataset is about to run, as far as it is known.

    Attributes:
        processing_mode: "dynamic" or "off", as in `distribute`.
        workers: at least that many worker processes in all; None if nobody knows.
        workers_per_host: worker processes that share one host's memory.
        memory_bytes: that memory.
        host: whose memory it is, in a sentence.
        preloaded: modules whose custom operations the workers have.
        takes_demands: the hosts import what the graph needs when distribute() tells them; not those of another service.
        coordinated: the ranks read in turns, as in `distribute`.
        dataset_fn: what makes the dataset, as in `distribute`.
    """

    processing_mode: str = "dynamic"
    workers: int | None = None
    workers_per_host: int = 1
    memory_bytes: int | None = None
    host: str = "this host"
    preloaded: tuple[str, ...] = ()
    takes_demands: bool = False
    coordinated: bool = False
    dataset_fn: str | None = None

    @classmethod
    def of(
        cls,
        cluster: Cluster,
        processing_mode: str,
        *,
        own_workers: bool,
        coordinated: bool = False,
        workers_per_host: int | None = None,
        dataset_fn: str | None = None,
    ) -> Job:
        """What this process knows: every serving host has at least one worker, or as many as the wire asks for; a data host
        has what its instance type has, and if that is not known, what this host has."""
        host, memory_bytes, share = "this host", host_memory_bytes(), 1
        if own_workers:
            share = worker_count(usable_cpus())
            group = next((group for group in cluster.groups if group.role is Role.DATA), None)
            known = instance(group.instance_type) if group else None
            if known and known.vcpu and known.memory_gib:
                host, memory_bytes = f"an {known.name}", int(known.memory_gib * 2**30)
                share = worker_count(known.vcpu, known.baseline_gbps)
        return cls(
            processing_mode=processing_mode,
            workers=len(cluster.serving_hosts) * (workers_per_host or 1) if own_workers else None,
            workers_per_host=max(share, workers_per_host or 1),
            memory_bytes=memory_bytes,
            host=host,
            preloaded=known_preloads(),
            takes_demands=own_workers,
            coordinated=coordinated,
            dataset_fn=dataset_fn,
        )

    @property
    def is_split(self) -> bool:
        """Whether the workers divide the source among them."""
        return self.processing_mode == "dynamic"

    @property
    def crowd(self) -> str:
        """The workers, in a sentence."""
        return "each worker" if self.workers is None or self.workers < 2 else f"each of the {self.workers} workers"
