"""What takes memory on each worker: arrays in the graph, shuffle buffers, caches."""

from __future__ import annotations

from collections.abc import Iterator

from hetero_tfdata.service.preflight.finding import Finding, Job
from hetero_tfdata.service.preflight.graph import ENDLESS, Graph
from hetero_tfdata.service.preflight.sizes import in_units
from hetero_tfdata.service.preflight.stage import Stage

__all__ = ["LARGE_GRAPH_BYTES", "buffers", "caches", "large_graph", "largest_constants"]

LARGE_GRAPH_BYTES = 100_000_000
# What a graph with a 98 MB array cost, in times its size (probed, TF 2.15.1).
_DISPATCHER_COST = (1.0, 1.7)
_WORKER_COST = (2.1, 3.4)
_TOLERATED = 0.5  # of a host's memory: the rest is for decoding, the page cache and TensorFlow's own 183 MiB a process


def largest_constants(graph: Graph) -> list[str]:
    """The three largest arrays of a megabyte and more, each with its place."""
    return [str(constant) for constant in graph.constants()[:3] if constant.size_bytes >= 1e6]


def large_graph(graph: Graph, job: Job) -> Iterator[Finding]:
    """A graph that carries data."""
    if graph.size_bytes < LARGE_GRAPH_BYTES:
        return
    dispatcher = " to ".join(in_units(times * graph.size_bytes) for times in _DISPATCHER_COST)
    worker = " to ".join(in_units(times * graph.size_bytes) for times in _WORKER_COST)
    yield Finding(
        "large-graph",
        f"the dataset's graph, {in_units(graph.size_bytes)}: {'; '.join(largest_constants(graph))}",
        f"each registration takes {dispatcher} of the dispatcher's memory and each pass {worker} on {job.crowd}",
        "write the arrays to files (TFRecord, np.save) and read them in the dataset",
    )


def buffers(graph: Graph, job: Job) -> Iterator[Finding]:
    """Shuffle buffers, prefetch and caches against the host's memory, which all its workers share."""
    if not job.memory_bytes:
        return
    held = []
    for stage in graph.stages:
        size_bytes = _held_bytes(graph, stage, job)
        if size_bytes:
            held.append((size_bytes, stage))
    total = sum(size_bytes for size_bytes, _ in held) * job.workers_per_host
    if total > _TOLERATED * job.memory_bytes:
        held.sort(key=lambda one: -one[0])
        listed = ", ".join(f"{_call(graph, stage)} {in_units(size_bytes)}" for size_bytes, stage in held[:3])
        yield Finding(
            "memory",
            listed,
            f"each worker process has its own: {in_units(total)} for {job.workers_per_host} on a host; {job.host} has "
            f"{in_units(job.memory_bytes)}",
            "a smaller shuffle buffer, before decoding; cache before what makes elements larger",
        )


def caches(graph: Graph, job: Job) -> Iterator[Finding]:
    """Caches that lose their content between epochs, or that workers fight for."""
    for stage in graph.stages:
        if stage.kind != "Cache":
            continue
        filename = graph.value(stage, "filename")
        if filename:
            path = filename.decode() if isinstance(filename, bytes) else filename
            yield Finding(
                "cache-file",
                stage.call(repr(path)),
                "two workers that see the same folder write the same file, and the second ends with an error (lockfile "
                "already exists)",
                "cache() without a file, or one worker per host and a folder on its own disk",
            )
        elif not any(one.kind == "Repeat" for one in stage.downstream()):
            yield Finding(
                "cache-per-epoch",
                stage.call(),
                "every pass that begins anew at distribute() begins with an empty cache: it takes memory and saves nothing",
                "distribute(cache=...); or repeat() after cache(), before distribute()",
            )


def _call(graph: Graph, stage: Stage) -> str:
    size = graph.value(stage, "buffer_size")
    return stage.call() if size is None else stage.call(size)


def _held_bytes(graph: Graph, stage: Stage, job: Job) -> float | None:
    """What one worker process holds for a stage; None where the graph doesn't tell."""
    if not stage.inputs:
        return None
    element_bytes = stage.inputs[0].element_bytes
    count = graph.count(stage.inputs[0])
    if element_bytes is None:
        return None
    share = max(1, job.workers or 1) if job.is_split else 1
    part = None if count is None or count == ENDLESS else count / share
    if stage.kind in ("Shuffle", "ShuffleAndRepeat"):
        size = graph.value(stage, "buffer_size")
        return None if size is None or size < 0 else element_bytes * (size if part is None else min(size, part))
    if stage.kind == "Prefetch":
        size = graph.value(stage, "buffer_size")
        return element_bytes * size if size and size > 0 else None
    if stage.kind == "Cache" and not graph.value(stage, "filename"):
        return None if part is None else element_bytes * part
    return None
