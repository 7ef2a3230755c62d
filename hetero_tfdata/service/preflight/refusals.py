"""What can't run on a worker in another process, would abort this one, or would wait for ever."""

from __future__ import annotations

from collections.abc import Iterator

from hetero_tfdata.service.preflight.finding import Finding, Job
from hetero_tfdata.service.preflight.graph import Graph
from hetero_tfdata.service.preflight.sizes import in_units

__all__ = [
    "LARGEST_GRAPH_BYTES",
    "captured_resources",
    "coordinated_end",
    "graph_too_large",
    "nested_service",
    "unsplittable",
]

# gRPC sends no message over 2 GiB, and TensorFlow aborts the process where one is asked for (an assertion, no exception).
# 1 MiB is for what goes around the graph: the stages that distribute() adds, the request itself.
LARGEST_GRAPH_BYTES = 2**31 - 2**20

# Stages for which TensorFlow has no way to divide their source. Each was run: "Splitting is not implemented for ..." or
# "Cannot create split providers for dataset of type ..." at the first element (TF 2.15.1).
_UNSPLITTABLE = {
    "CSV": "open each file inside interleave(): files.interleave(lambda file: tf.data.experimental.CsvDataset(file, ...))",
    "GroupByReducer": "group after distribute()",
    "Load": "store TFRecord files, and read them with interleave()",
    "Snapshot": "write the snapshot in a run before, or use cache()",
    "Sql": "store TFRecord files, and read them with interleave()",
}
_HANDLES = {
    "Iterator": "an iterator of this process",
    "Queue": "a queue of this process",
    "LookupTable": "a table whose content TensorFlow can't write into the graph (DenseHashTable)",
}


def captured_resources(graph: Graph, job: Job) -> Iterator[Finding]:
    """Iterators, queues and tables that a function holds on to and whose content doesn't travel."""
    del job
    for operation, used in graph.captured_handles():
        what = next((text for prefix, text in _HANDLES.items() if any(op.startswith(prefix) for op in used)), None)
        yield Finding(
            "captured-resource",
            operation,
            f"its function uses {what or 'a resource of this process'}, which no worker has",
            "give it what it needs as a dataset (zip, flat_map) or as a tensor; for tables, tf.lookup.StaticHashTable travels",
            refused=True,
        )


def graph_too_large(size_bytes: int, largest: list[str]) -> Finding:
    """A graph that would abort the process."""
    held = f" (it holds {'; '.join(largest)})" if largest else ""
    return Finding(
        "graph-too-large",
        f"the dataset's graph, {in_units(size_bytes)}",
        f"TensorFlow aborts the process beyond {in_units(LARGEST_GRAPH_BYTES)}{held}",
        "write the arrays to files (TFRecord, np.save) and read them in the dataset",
        refused=True,
    )


def nested_service(graph: Graph, job: Job) -> Iterator[Finding]:
    """A dataset that comes from a tf.data service already: divided once more, the dispatcher waits for itself."""
    if not job.is_split:
        return
    for stage in graph.stages:
        if stage.kind == "DataService":
            yield Finding(
                "distributed-twice",
                stage.call(),
                "the dataset comes from a tf.data service already; divided once more, the dispatcher waits for ever",
                "call distribute() once, as the last step",
                refused=True,
            )


def unsplittable(graph: Graph, job: Job) -> Iterator[Finding]:
    """Stages that TensorFlow can't divide among workers."""
    if not job.is_split:
        return
    for stage in graph.stages:
        if stage.kind in _UNSPLITTABLE:
            yield Finding(
                "unsplittable",
                stage.call(),
                "TensorFlow can't divide it among workers",
                f'{_UNSPLITTABLE[stage.kind]}; or distribute(processing_mode="off"): each worker gives all of it',
                refused=True,
            )
        elif stage.kind == "AssertCardinality":
            number = graph.value(stage, "cardinality")
            certain = (job.workers or 1) > 1
            yield Finding(
                "cardinality-per-worker",
                stage.call(number),
                f"{job.crowd} gets a part, counts fewer than {number} elements and ends with an error",
                "leave it out, for tensorflow_datasets by ReadConfig(assert_cardinality=False), or put it after distribute()",
                refused=certain,
            )


def coordinated_end(graph: Graph, job: Job) -> Iterator[Finding]:
    """Coordinated reads of a dataset that ends: the ranks that are not served in the last round wait for ever."""
    if job.coordinated and not graph.is_endless(graph.result):
        yield Finding(
            "coordinated-end",
            graph.result.call(),
            "coordinated reads need a dataset without an end: in the last round some ranks would wait for ever",
            "repeat() before the batches are made, and steps_per_epoch in the training",
            refused=True,
        )
