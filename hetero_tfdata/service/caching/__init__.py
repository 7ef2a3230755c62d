"""distribute(cache=...): the dataset with its deterministic map() steps looked up in what the host keeps.

The dataset's own graph is changed, which is what a worker gets: the steps of a run (region.py) become one step that looks its
results up (lookup.py), and the graph becomes a dataset again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hetero_tfdata.service.cache import Cache

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["LARGEST_GRAPH_BYTES", "Cached", "cached"]

LARGEST_GRAPH_BYTES = 500_000_000  # the graph is written and read once more, in this process's memory


@dataclass(frozen=True)
class Cached:
    """A dataset and what is kept of it.

    Attributes:
        dataset: the same elements.
        summary: for the log: what is kept, or why nothing is.
        keeps: whether something is.
    """

    dataset: tf.data.Dataset
    summary: str
    keeps: bool


def cached(dataset: tf.data.Dataset, cache: Cache) -> Cached:
    """The dataset with a cache, or as it is where nothing can be kept.

    Raises:
        DatasetError: TensorFlow can't write the dataset's graph.
    """
    import tensorflow as tf  # only now, as the modules that import it

    from hetero_tfdata.service.caching import graft, region
    from hetero_tfdata.service.caching.functions import Functions
    from hetero_tfdata.service.caching.sameness import Sameness
    from hetero_tfdata.service.preflight.graph import Graph, first_line
    from hetero_tfdata.service.preflight.sizes import in_units

    graph = Graph(dataset)
    if graph.size_bytes > LARGEST_GRAPH_BYTES:
        why = f"the dataset's graph carries {in_units(graph.size_bytes)} of data: write it to files, and read those"
        return Cached(dataset, f"nothing is kept: {why}", False)
    functions = Functions(graph.functions)
    found = region.find(graph, functions, Sameness(graph, functions))
    if isinstance(found, str):
        return Cached(dataset, f"nothing is kept: {found}", False)
    try:
        kept = graft.grafted(dataset, graph, functions, found, cache)
    except tf.errors.OpError as error:
        # a graph that TensorFlow writes and can't read again: whether a worker can is not for the cache to say
        return Cached(dataset, f"nothing is kept: TensorFlow can't read the dataset's graph: {first_line(error)}", False)
    return Cached(kept, graft.summary(graph, found, cache), True)
