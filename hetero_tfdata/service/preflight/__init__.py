"""What is said of a dataset before it runs on other hosts, from its own graph.

What can't run there, or would abort or hang, is refused; what means something else when several workers share the dataset, or
takes each worker's memory, is a warning. Nothing of the dataset runs.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from hetero_tfdata.errors import DatasetError
from hetero_tfdata.service.preflight.finding import Finding, Job, Needs, host_memory_bytes, known_preloads

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Finding", "Job", "Needs", "check", "examine", "host_memory_bytes", "inspect", "known_preloads"]

_log = logging.getLogger("hetero_tfdata")


def check(dataset: tf.data.Dataset, job: Job, *, strict: bool = False, quiet: bool = False) -> Needs:
    """Warns of what the dataset will do, or refuses it.

    Args:
        dataset: what is about to be registered.
        job: where it is about to run.
        strict: refuse also what is otherwise a warning.
        quiet: another rank registers the dataset: log no warnings, and leave a graph that carries data to that rank, for
            writing it takes seven times its size of memory.

    Returns:
        What the workers have to import.

    Raises:
        DatasetError: names each operation that was refused, why, and what to write instead.
    """
    if quiet and _carries_data(dataset):
        return Needs()
    findings, needs = examine(dataset, job)
    refused = [finding for finding in findings if finding.refused or strict]
    if refused:
        raise DatasetError("; ".join(map(str, refused)))
    for finding in findings if not quiet else ():
        _log.warning("distribute(): %s", finding)
    return needs


def _carries_data(dataset: tf.data.Dataset) -> bool:
    from hetero_tfdata.service.preflight.memory import LARGE_GRAPH_BYTES
    from hetero_tfdata.service.preflight.sizes import held_bytes

    return held_bytes(dataset)[0] > LARGE_GRAPH_BYTES


def inspect(dataset: tf.data.Dataset, job: Job) -> list[Finding]:
    """What there is to say of a dataset: refusals first.

    Raises:
        DatasetError: TensorFlow can't write the dataset's graph.
    """
    return examine(dataset, job)[0]


def examine(dataset: tf.data.Dataset, job: Job) -> tuple[list[Finding], Needs]:
    """What there is to say of a dataset, refusals first; and what a worker has to import for it.

    Raises:
        DatasetError: TensorFlow can't write the dataset's graph.
    """
    # only now: the modules import TensorFlow
    from hetero_tfdata.service.preflight import libraries, meanings, memory, python_functions, refusals
    from hetero_tfdata.service.preflight.graph import Graph
    from hetero_tfdata.service.preflight.sizes import held_bytes

    # near the limit the graph takes seven times its size to write: an array that is too large is refused before
    size_bytes, largest = held_bytes(dataset)
    if size_bytes > refusals.LARGEST_GRAPH_BYTES:
        return [refusals.graph_too_large(size_bytes, largest)], Needs()
    graph = Graph(dataset)
    if graph.size_bytes == 0:  # TensorFlow only logs that protobuf could not write it
        return [refusals.graph_too_large(max(size_bytes, 2**31), largest)], Needs()
    if graph.size_bytes > refusals.LARGEST_GRAPH_BYTES:
        return [refusals.graph_too_large(graph.size_bytes, memory.largest_constants(graph))], Needs()
    rules: list[Any] = [
        python_functions.python_functions,
        refusals.captured_resources,
        refusals.nested_service,
        refusals.unsplittable,
        refusals.coordinated_end,
        libraries.custom_operations,
        meanings.zipped,
        meanings.per_worker,
        meanings.fixed_seeds,
        meanings.assigned_state,
        meanings.remainders,
        meanings.few_sources,
        memory.large_graph,
        memory.buffers,
        memory.caches,
    ]
    needs = Needs(libraries.importable(graph), python_functions.servable(graph, job))
    findings = dict.fromkeys(finding for rule in rules for finding in rule(graph, job))
    return sorted(findings, key=lambda finding: not finding.refused), needs
