"""Ranks that share one stream get uneven numbers of batches; training together and evaluating each sample once all the same.

A rank that ends an epoch earlier than another leaves it waiting in its next allreduce for ever. Three ways out:

    repeat() before distribute(), steps_per_epoch=n  an endless stream and fixed steps: there is nothing to agree on
    .apply(together())                               all stop before the first step for which one of them has no batch
    .apply(together(at_end="weigh"))                 all go on until none has a batch; who has none repeats one, weight 0

and for evaluation `evaluate` or `EveryRankEvaluation`: each rank its share of the stream, no step in common, one sum at last.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from hetero_tfdata.errors import ConfigurationError, DatasetError
from hetero_tfdata.train.horovod import load_horovod

__all__ = ["EveryRankEvaluation", "evaluate", "together"]

_AT_END = ("drop", "weigh")
_numbers = itertools.count()


def together(*, at_end: str = "drop", name: str | None = None) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """Ends a dataset on all ranks in the same step, for `Dataset.apply`; the last line of the pipeline, after `distribute`.

    Before each step the ranks tell each other whether they have a batch, in an allreduce of one number. With one rank, or
    without Horovod's launcher, the dataset stays what it is ("weigh" adds its weights).

    Args:
        at_end: "drop": all stop as soon as one rank has no batch; what others still had, prefetched batches too, is not
            trained on. "weigh": all go on until no rank has one; elements (x, y) or (x, y, weights) become (x, y, weights)
            with float32 [B] weights, and a rank that has run out repeats its last batch with weights of 0: each row counts
            once, and the averaged gradient of such a step is smaller by the ranks that sit it out.
        name: of the allreduce, the same on all ranks; by default the number of the call, so all ranks must call alike.

    Returns:
        A function from dataset to dataset. Every rank has to take the same number of elements; nothing may prefetch behind it.

    Raises:
        ConfigurationError: there is no such `at_end`, or Horovod is missing.
        DatasetError: (when applied, "weigh") the elements are not (x, y) or (x, y, weights).
    """
    if at_end not in _AT_END:
        raise ConfigurationError(f"together: at_end: expected one of {', '.join(_AT_END)}, got {at_end!r}")
    hvd = load_horovod()
    if not hvd.is_initialized():
        hvd.init()
    votes = name or f"hetero_tfdata.together.{next(_numbers)}"

    def transformation(dataset: tf.data.Dataset) -> tf.data.Dataset:
        if at_end == "weigh":
            dataset = dataset.map(_weighed)
        if hvd.size() == 1:
            return dataset
        spec = dataset.element_spec
        optional = tf.experimental.Optional
        some = dataset.map(lambda *element: optional.from_value(element if len(element) > 1 else element[0]))
        none = tf.data.Dataset.from_tensors(0).repeat().map(lambda _: optional.empty(spec))
        ended = some.concatenate(none)
        agreed = ended.scan(_blank(spec), _vote_to_stop(hvd, votes) if at_end == "drop" else _vote_to_go_on(hvd, votes))
        going_on = agreed.take_while(lambda goes_on, _: goes_on)
        # Nothing may read ahead of the training: a rank that does waits for votes that the others give with their next epoch.
        # So no map, which TensorFlow makes parallel by itself, and no prefetch, which it adds by itself.
        elements = going_on.scan(0, lambda state, voted: (state, voted[1]))
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        return elements.with_options(options)

    return transformation


def evaluate(model: tf.keras.Model, dataset: tf.data.Dataset) -> dict[str, float]:
    """Loss and metrics over the rows that all ranks got together, the same on every rank; each row counts once.

    Each rank evaluates its own share, however large, and the sums are added at the end: the means over the rows of what is a
    mean over rows (losses, accuracies); a metric that is none, such as an AUC, comes out as the average of the ranks' own.

    Args:
        model: compiled; all ranks hold the same weights.
        dataset: (x, y) or (x, y, weights), finite; on several ranks behind `distribute()`, or anything that splits it.

    Returns:
        By the model's names of its metrics.

    Raises:
        DatasetError: no rank got a row.
    """
    model.reset_metrics()
    rows, results = 0, {}
    for batch in dataset:
        results = model.test_on_batch(*batch, reset_metrics=False, return_dict=True)
        rows += int(tf.shape(tf.nest.flatten(batch[1])[0])[0])
    names = sorted(set().union(*load_horovod().allgather_object(list(results), name="hetero_tfdata.evaluate.names")))
    sums = np.array([rows, *(rows * float(results[name]) if results else 0.0 for name in names)])
    total, *weighted = load_horovod().allreduce(sums, op=load_horovod().Sum, name="hetero_tfdata.evaluate").numpy()
    if not total:
        raise DatasetError("evaluate: dataset: expected rows for at least one rank, none got any")
    return {name: float(value / total) for name, value in zip(names, weighted, strict=True)}


class EveryRankEvaluation(tf.keras.callbacks.Callback):
    """`evaluate` after every epoch, on all ranks; adds `val_...` to the logs of each, the same on all.

    Args:
        dataset: as `evaluate` takes it; every rank needs one.
    """

    def __init__(self, dataset: tf.data.Dataset) -> None:
        super().__init__()
        self.dataset = dataset

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Evaluate."""
        results = evaluate(self.model, self.dataset)
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in results.items()})


def _vote_to_stop(hvd: Any, name: str) -> Callable[[Any, Any], Any]:
    def vote(blank: Any, optional: tf.experimental.Optional) -> Any:
        goes_on = hvd.allreduce(tf.cast(optional.has_value(), tf.int32), op=hvd.Min, name=name) > 0
        return blank, (goes_on, tf.cond(optional.has_value(), optional.get_value, lambda: blank))

    return vote


def _vote_to_go_on(hvd: Any, name: str) -> Callable[[Any, Any], Any]:
    def vote(last: Any, optional: tf.experimental.Optional) -> Any:
        goes_on = hvd.allreduce(tf.cast(optional.has_value(), tf.int32), op=hvd.Max, name=name) > 0
        again = (*last[:2], tf.zeros_like(last[2]))
        element = tf.cond(optional.has_value(), optional.get_value, lambda: again)
        return element, (goes_on, element)

    return vote


def _weighed(*element: Any) -> Any:
    if len(element) not in (2, 3):
        raise DatasetError(f"together: dataset: expected elements (x, y) or (x, y, weights), got {len(element)} component(s)")
    if len(element) == 3:
        return element
    x, y = element
    return x, y, tf.ones(tf.shape(tf.nest.flatten(y)[0])[:1])


def _blank(spec: Any) -> Any:
    """An element of that spec: zeros, one of every unknown dimension."""

    def zeros(one: Any) -> Any:
        if not isinstance(one, tf.TensorSpec) or one.shape.rank is None:
            raise DatasetError(f"together: dataset: expected dense tensors of known rank, got {one}")
        return tf.zeros([1 if size is None else size for size in one.shape], one.dtype)

    return tf.nest.map_structure(zeros, spec)
