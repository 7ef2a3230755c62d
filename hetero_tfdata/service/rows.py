"""How many rows a pass of a dataset has, as far as its steps show it, and how many rows an element has.

Known for what is made of arrays and ranges by steps that neither add nor leave out rows, whichever worker runs them. Records of
files are not counted before they are read, and what `filter`, `take` or `flat_map` leave is another number on several workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hetero_tfdata.service.chunks import BATCHING, batch_rows

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Extent", "anew", "rows_of"]

# By the class of the step (TensorFlow 2.12 to 2.21), without a "_" that some versions put before it.
_SOURCES = {"RangeDataset", "TensorDataset", "TensorSliceDataset"}
_KEEP_COUNT = {"CacheDataset", "MapDataset", "OptionsDataset", "ParallelMapDataset", "PrefetchDataset", "ShuffleDataset"}
_KEEP_COUNT |= {"DatasetV1Adapter", "RestructuredDataset"}
_CHANGE_COUNT = {"RepeatDataset", "UnbatchDataset"}  # TensorFlow's cardinality follows these


_ENDING = {"TakeDataset", "TakeWhileDataset"}
_INFINITE = -1  # tf.data.INFINITE_CARDINALITY


@dataclass(frozen=True)
class Extent:
    """How many rows a pass over all workers has.

    Attributes:
        rows: None where it can't be told, or there is no end.
        in_batches: each element is a batch of rows; else an element is a row.
        drops_remainder: each worker and each rank may leave out the rows of its last batch, so fewer come without a fault.
        endless: a pass has no end, as after repeat(); False also where it can't be told.
    """

    rows: int | None
    in_batches: bool
    drops_remainder: bool = False
    endless: bool = False

    @classmethod
    def of(cls, dataset: tf.data.Dataset) -> Extent:
        """Of a dataset before it is divided; nothing of it runs."""
        in_batches = batch_rows(dataset) is not None
        endless = _is_endless(dataset)
        times, upper = 1, dataset
        while in_batches and type(upper).__name__ not in BATCHING:
            if _kind(upper) == "RepeatDataset":
                times *= _times(upper)
            elif _kind(upper) not in _KEEP_COUNT:
                return cls(None, True, endless=endless)
            upper = upper._inputs()[0]
        drops = in_batches and bool(_static(getattr(upper, "_drop_remainder", True)))
        below = upper._inputs()[0] if in_batches else upper
        if times < 0 or not _is_countable(below):
            return cls(None, in_batches, drops, endless)
        rows = int(below.cardinality()) * times
        return cls(rows if rows >= 0 else None, in_batches, drops, endless)


def rows_of(element: Any) -> tf.Tensor:
    """int64: the rows of a batch, from its first component."""
    import tensorflow as tf

    first = tf.nest.flatten(element)[0]
    if isinstance(first, tf.RaggedTensor):
        return tf.cast(first.nrows(), tf.int64)
    return tf.shape(first, tf.int64)[0]


def anew(element: Any) -> Any:
    """The same element from operations of its own, for those that are to run before it; with its static shapes."""
    import tensorflow as tf

    def again(part: Any) -> Any:
        if isinstance(part, tf.SparseTensor):  # up to TF 2.12 a new dense_shape has no static shape
            return tf.SparseTensor(tf.identity(part.indices), tf.identity(part.values), part.dense_shape)
        return tf.nest.map_structure(tf.identity, part, expand_composites=True)

    return tf.nest.map_structure(again, element)


def _is_countable(dataset: tf.data.Dataset) -> bool:
    waiting = [dataset]
    while waiting:
        one = waiting.pop()
        if _kind(one) not in _SOURCES | _KEEP_COUNT | _CHANGE_COUNT:
            return False
        waiting += one._inputs()
    return True


def _is_endless(dataset: tf.data.Dataset) -> bool:
    if int(dataset.cardinality()) == _INFINITE:
        return True
    # TensorFlow doesn't say it of what comes behind a filter() or interleave()
    while len(dataset._inputs()) == 1 and _kind(dataset) not in _ENDING:
        if _kind(dataset) == "RepeatDataset":
            times = _static(dataset._count)
            return times is not None and times < 0
        dataset = dataset._inputs()[0]
    return False


def _kind(dataset: tf.data.Dataset) -> str:
    return type(dataset).__name__.removeprefix("_")


def _times(repeat: Any) -> int:
    """Of a repeat(): -1 without an end, or where the number isn't a constant."""
    times = _static(repeat._count)
    return -1 if times is None else int(times)


def _static(tensor: Any) -> Any:
    import tensorflow as tf

    return tf.get_static_value(tensor)
