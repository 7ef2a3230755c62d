"""What an input graph costs, measured by running it: CPU time a sample, of each stage; bytes a sample on the wire; memory.

The graph runs here as a worker runs it, with its own parallelism, repeated if it ends. After a warm-up the process's CPU time
is divided by the samples that came, and by the part of the CPUs that was busy: what a graph leaves idle although samples are
wanted as fast as they come is lost on the training host as it is here. A stage's cost is that of the graph up to it less that
of the graph up to the stage before it, so all runs are short, and one after the other.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.plan.profile import LEAST_BUSY, Profile, StageCost
from hetero_tfdata.service.chunks import BATCHING, Passage, batch_rows, has_batches
from hetero_tfdata.service.cpus import cpu_quota, usable_cpus
from hetero_tfdata.service.preflight.graph import Graph
from hetero_tfdata.service.rows import rows_of
from hetero_tfdata.service.wire import Wire

__all__ = ["fingerprint", "measure", "measure_step"]

# Single elements are counted by hundreds, or Python would cost more than the stage.
_TOGETHER = 256
_WARM_UP_SHARE = 0.4
# What gives another number of elements than it gets: up to the last of them the graph is measured as one.
_CHANGES_NUMBER = {
    *("Filter", "FlatMap", "GroupByReducer", "GroupByWindow", "Interleave", "ParallelFilter", "ParallelInterleave"),
    *("LegacyParallelInterleave", "Window", "Zip", "DirectedInterleave", "IgnoreErrors", "TakeWhile"),
}
_SILENT = {"Options", "Model", "Repeat"}


def measure(
    dataset: tf.data.Dataset,
    name: str,
    *,
    seconds: float = 8.0,
    stage_seconds: float | None = None,
    samples_per_element: int | None = None,
    log: Callable[[str], object] = print,
) -> Profile:
    """The profile of a dataset.

    Args:
        dataset: batches or single samples.
        name: what to call it in the profile.
        seconds: for the whole graph.
        stage_seconds: for each stage; None: a quarter of `seconds`.
        samples_per_element: what an element counts; None: the rows of a batch that batch() made, else 1.
        log: takes a line for each thing that is measured.

    Raises:
        ConfigurationError: the dataset gives nothing.
    """
    before = _resident_mib()
    _reset_peak()
    log(f"measuring {name}: the whole graph, {seconds:g} s")
    counted = _Counted(dataset, samples_per_element)
    if (rows := counted.unsure_rows()) is not None:
        log(
            f"each element is counted as one sample, but all its parts have {rows} rows: if a function of the graph makes "
            f"batches, say --samples-per-element {rows}"
        )
    cpu_ms, rate, busy = _cost(counted, seconds)
    vcpu_ms = cpu_ms / min(1.0, max(LEAST_BUSY, busy))
    memory = max(0.0, _peak_mib() - before)
    wire, floats = _wire_bytes(dataset, samples_per_element)
    stages = _stages(counted, cpu_ms, stage_seconds or seconds / 4, log)
    stages = tuple(replace(one, cpu_ms_per_sample=one.share * vcpu_ms) for one in stages)
    return Profile(
        name, fingerprint(dataset), vcpu_ms, busy, wire, rate, memory, stages, _machine(), float32_bytes_per_sample=floats
    )


def measure_step(step: Callable[[Any], Any], batch: Any, *, seconds: float = 8.0) -> float:
    """Median milliseconds of `step(batch)`, waited for, after three calls for warming up."""
    times: list[float] = []
    for _ in range(3):
        _wait_for(step(batch))
    ends = time.monotonic() + seconds
    while time.monotonic() < ends or len(times) < 3:
        began = time.perf_counter()
        _wait_for(step(batch))
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


def _wait_for(result: Any) -> None:
    for tensor in tf.nest.flatten(result):
        if hasattr(tensor, "numpy"):
            tensor.numpy()


@dataclass(frozen=True)
class _Counted:
    """A graph, or the first stages of one, and how many samples one of its elements is.

    Attributes:
        dataset: the graph.
        per_element: samples; None: as batch() says, else 1.
    """

    dataset: tf.data.Dataset
    per_element: float | None = None

    @property
    def is_batched(self) -> bool:
        """Whether Python's own time for an element is small beside the element's."""
        return has_batches(self.dataset) if self.per_element is None else self.per_element > 1

    def below(self, part: tf.data.Dataset) -> _Counted:
        """One of its stages: where batch() stands between, an element of that is a part of one of this."""
        per_element, upper = self.per_element, self.dataset
        while per_element is not None and upper is not part:
            if type(upper).__name__ in BATCHING:
                per_element /= batch_rows(upper) or 1
            upper = upper._inputs()[0]
        return _Counted(part, per_element)

    def numbers(self) -> tf.data.Dataset:
        """Numbers of samples, without end."""
        endless = self.dataset.repeat()
        if self.is_batched and self.per_element is None:
            return endless.map(lambda *element: tf.cast(rows_of(element), tf.float64))
        ones = endless.map(lambda *element: tf.constant(self.per_element or 1.0, tf.float64))
        return ones if self.is_batched else ones.batch(_TOGETHER).map(tf.reduce_sum)

    def unsure_rows(self) -> int | None:
        """Rows that all parts of an element have, where it is counted as one sample and may be a batch."""
        if self.is_batched or self.per_element is not None:
            return None
        shapes = [getattr(spec, "shape", None) for spec in tf.nest.flatten(self.dataset.element_spec)]
        rows = {shape[0] if shape is not None and shape.rank else None for shape in shapes}
        (only, *others) = rows
        return only if not others and len(shapes) > 1 and only is not None and only > 1 else None


def _cost(counted: _Counted, seconds: float) -> tuple[float, float, float]:
    """(vCPU-ms a sample, samples a second, part of the CPUs that was busy)."""
    counts = iter(counted.numbers())
    ends = time.monotonic() + seconds * _WARM_UP_SHARE
    while time.monotonic() < ends:
        _next(counts)
    samples, cpu_s, began = 0.0, _cpu_s(), time.monotonic()
    while time.monotonic() < began + seconds * (1 - _WARM_UP_SHARE):
        samples += _next(counts)
    wall_s, used_s = time.monotonic() - began, _cpu_s() - cpu_s
    return used_s / samples * 1e3, samples / wall_s, used_s / wall_s / cpu_quota()


def _next(counts: Iterator[tf.Tensor]) -> float:
    try:
        return float(next(counts).numpy())
    except StopIteration:
        raise ConfigurationError("the dataset gives no samples: there is nothing to measure") from None


def _stages(whole: _Counted, cpu_ms: float, seconds: float, log: Callable[[str], object]) -> tuple[StageCost, ...]:
    parts = [(name, whole.below(part)) for name, part in _parts(whole.dataset)]
    costs: list[tuple[str, float]] = []
    below = 0.0
    for number, (name, part) in enumerate(parts):
        if number == len(parts) - 1:
            up_to = cpu_ms
        else:
            log(f"measuring up to {name}, {seconds:g} s")
            up_to = _cost(part, seconds)[0] - _counting_ms(part)
        costs.append((name, max(0.0, up_to - below)))
        below = max(below, up_to)
    total = sum(cost for _, cost in costs) or 1.0
    return tuple(StageCost(name, cost * cpu_ms / total, cost / total) for name, cost in costs)


def _parts(dataset: tf.data.Dataset) -> list[tuple[str, tf.data.Dataset]]:
    """The graph up to each of its stages, from the source on, with the stage's name."""
    chain = [dataset]
    while len(chain[-1]._inputs()) == 1:
        chain.append(chain[-1]._inputs()[0])
    chain.reverse()
    stages = [Graph(part).result for part in chain]
    first = max((number for number, stage in enumerate(stages) if stage.kind in _CHANGES_NUMBER), default=0)
    found = [(stages[first].call() if first == 0 else f"up to {stages[first].call()}", chain[first])]
    for part, stage in list(zip(chain, stages, strict=True))[first + 1 :]:
        if stage.kind in _SILENT:
            found[-1] = (found[-1][0], part)
        else:
            found.append((stage.call(), part))
    return found


def _counting_ms(part: _Counted) -> float:
    """What the counting itself takes for a sample."""
    return 0.0 if part.is_batched else _counting_one_ms() / (part.per_element or 1.0)


@functools.cache
def _counting_one_ms() -> float:
    """Measured on samples that cost nothing."""
    return _cost(_Counted(tf.data.Dataset.range(_TOGETHER)), 1.0)[0]


def _wire_bytes(dataset: tf.data.Dataset, samples_per_element: int | None) -> tuple[float, float]:
    """Bytes a sample of some elements, as distribute() hands them on, and those of them that are float32."""
    in_batches = has_batches(dataset)
    size = floats = rows = 0
    for element in Passage.plan(dataset, Wire()).pack(dataset).take(8):
        for part in tf.nest.flatten(element, expand_composites=True):
            size += _bytes_of(part)
            floats += _bytes_of(part) if part.dtype == tf.float32 else 0
        rows += samples_per_element or (int(rows_of(element)) if in_batches else 1)
    return size / max(1, rows), floats / max(1, rows)


def _bytes_of(tensor: tf.Tensor) -> int:
    if tensor.dtype == tf.string:
        return int(tf.reduce_sum(tf.strings.length(tensor)))
    return int(np.prod(tensor.shape)) * int(tensor.dtype.size)


def fingerprint(dataset: tf.data.Dataset) -> str:
    """The same for graphs of the same stages and elements: `Profile.graph`."""
    stages = [f"{stage.kind} {stage.call()}" for stage in Graph(dataset).stages]
    return hashlib.sha256("\n".join([*stages, str(dataset.element_spec)]).encode()).hexdigest()[:16]


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _resident_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _reset_peak() -> None:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak of the resident size (proc(5))


def _peak_mib() -> float:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM:"))


def _machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), model)
    return {"cpu": model, "cpus": usable_cpus(), "tensorflow": tf.__version__, "date": time.strftime("%Y-%m-%d")}
