"""distribute(on_service_loss="local"): the stream that goes on without its service."""

from __future__ import annotations

import gc
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.data.experimental.ops import testing

from hetero_tfdata import distribute, errors
from hetero_tfdata.cluster.topology import Ranks
from hetero_tfdata.service.fallback import Fallback, share_of


def waiting_after(*rows: int) -> tf.data.Dataset:
    """Gives those, and then waits as a read from a service that is gone."""
    never = tf.data.Dataset.range(9).apply(testing.sleep(3_600_000_000))
    return tf.data.Dataset.from_tensor_slices(np.array(rows, np.int64)).concatenate(never)


def test_a_pass_that_loses_nothing_is_the_services_alone():
    fallback = Fallback()
    both = fallback.attach(tf.data.Dataset.range(20), tf.data.Dataset.range(100, 120))
    assert both.element_spec == tf.TensorSpec([], tf.int64)
    for _ in range(2):
        assert sorted(both.as_numpy_iterator()) == list(range(20))


def test_after_the_loss_the_local_elements_come_to_their_end():
    fallback = Fallback()
    elements = fallback.attach(waiting_after(1, 2), tf.data.Dataset.range(100, 103)).as_numpy_iterator()
    assert [next(elements), next(elements)] == [1, 2]
    fallback.lose()
    assert list(elements) == [100, 101, 102]


def test_a_stream_that_begins_after_the_loss_asks_the_service_for_nothing():
    fallback = Fallback()
    both = fallback.attach(waiting_after(), tf.data.Dataset.range(100, 103))
    fallback.lose()
    assert list(both.as_numpy_iterator()) == [100, 101, 102]


def test_a_stream_that_nobody_reads_to_its_end_goes_at_once():
    """Whatever it waits for: the service, or the loss."""
    for remote in (waiting_after(1), tf.data.Dataset.range(10)):
        elements = iter(Fallback().attach(remote, tf.data.Dataset.range(100, 103)))
        next(elements)
        began = time.monotonic()
        del elements
        gc.collect()
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.data.Dataset.range(4).map(lambda i: {"image": tf.fill([2, 3], i), "label": i}),
        lambda: tf.data.Dataset.range(4).map(lambda i: (tf.fill([2], i), i)),
        lambda: tf.data.Dataset.range(4).map(lambda i: (tf.fill([2], i),)),
        lambda: tf.data.Dataset.range(4).map(lambda i: tf.ragged.range(tf.stack([i, i + 1]))),
        lambda: tf.data.Dataset.range(4).map(lambda i: tf.sparse.from_dense(tf.fill([2], i))),
        lambda: tf.data.Dataset.range(8).batch(2, drop_remainder=True),
    ],
    ids=["dict", "tuple", "one", "ragged", "sparse", "batch"],
)
def test_elements_of_every_structure_pass(make):
    fallback = Fallback()
    both = fallback.attach(make(), make())
    assert both.element_spec == make().element_spec
    dense = lambda element: tf.nest.map_structure(_dense, element)  # noqa: E731
    expected = [dense(element) for element in make()]
    tf.nest.map_structure(np.testing.assert_array_equal, [dense(element) for element in both], expected)
    fallback.lose()
    tf.nest.map_structure(np.testing.assert_array_equal, [dense(element) for element in both], expected)


def _dense(value: object) -> np.ndarray:
    if isinstance(value, tf.RaggedTensor):
        return value.to_tensor().numpy()
    return tf.sparse.to_dense(value).numpy() if isinstance(value, tf.SparseTensor) else value.numpy()


def ranks(rank: int, size: int) -> Ranks:
    return Ranks(rank=rank, size=size, local_rank=rank, local_size=size)


@pytest.mark.parametrize(
    "dataset",
    [
        lambda: tf.data.Dataset.range(30).shuffle(30).batch(4),
        lambda: tf.data.Dataset.from_tensor_slices(np.arange(30)).map(lambda row: row).shuffle(10, seed=3).batch(4),
        lambda: tf.data.Dataset.range(10).interleave(lambda i: tf.data.Dataset.range(3 * i, 3 * i + 3)).batch(4),
    ],
    ids=["range", "slices", "interleave"],
)
def test_the_ranks_shares_are_the_dataset(dataset):
    whole = dataset()
    shares = [share_of(whole, ranks(rank, 3)) for rank in range(3)]
    rows = [[int(row) for batch in share for row in batch] for share in shares]
    assert sorted(row for one in rows for row in one) == list(range(30))
    assert all(8 <= len(one) <= 12 for one in rows)
    assert shares[0].element_spec == whole.element_spec


def test_fewer_elements_than_ranks_are_everybodys():
    assert sorted(share_of(tf.data.Dataset.range(2).repeat(2), ranks(1, 3)).as_numpy_iterator()) == [0, 0, 1, 1]
    assert list(share_of(tf.data.Dataset.range(3), ranks(0, 1)).as_numpy_iterator()) == [0, 1, 2]


def test_what_does_not_fit_is_refused():
    with pytest.raises(errors.ConfigurationError, match="on_service_loss: expected one of fail, local, got 'retry'"):
        distribute(on_service_loss="retry")
    with pytest.raises(errors.ConfigurationError, match="expected coordinated=False, got True"):
        distribute(on_service_loss="local", coordinated=True)
