"""How many rows a pass has, as far as a dataset shows it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hetero_tfdata.service.rows import Extent

Dataset = tf.data.Dataset
ARRAY = np.arange(24).reshape(12, 2)

EXTENTS = {
    "rows": (lambda: Dataset.range(10).shuffle(5).map(lambda x: x), Extent(10, False)),
    "batches": (lambda: Dataset.from_tensor_slices(ARRAY).batch(5).prefetch(1), Extent(12, True)),
    "parallel batches": (lambda: Dataset.range(10).batch(4, num_parallel_calls=2), Extent(10, True)),
    "repeated above": (lambda: Dataset.range(10).batch(4).repeat(3), Extent(30, True)),
    "repeated below": (lambda: Dataset.range(10).cache().repeat(3).batch(4), Extent(30, True)),
    "repeated for ever": (lambda: Dataset.range(10).repeat().batch(4), Extent(None, True, endless=True)),
    "repeated for ever above": (lambda: Dataset.range(10).batch(4).repeat(), Extent(None, True, endless=True)),
    "some of what has no end": (
        lambda: Dataset.range(10).repeat().filter(lambda x: x > 3).take(7).batch(4),
        Extent(None, True),
    ),
    "filtered for ever": (
        lambda: Dataset.range(10).repeat().filter(lambda x: x > 3).batch(4),
        Extent(None, True, endless=True),
    ),
    "files for ever": (
        lambda: Dataset.range(10).repeat().interleave(lambda x: Dataset.range(3)).batch(4),
        Extent(None, True, endless=True),
    ),
    "mapped": (lambda: Dataset.range(10).batch(4).map(lambda x: x * 2, num_parallel_calls=2), Extent(10, True)),
    "mapped to other rows": (lambda: Dataset.range(10).batch(4).map(lambda x: x[::2]), Extent(None, False)),
    "filtered": (lambda: Dataset.range(10).filter(lambda x: x > 3).batch(4), Extent(None, True)),
    "filtered batches": (lambda: Dataset.range(10).batch(4).filter(lambda x: x[0] > 3), Extent(None, True)),
    "taken on each worker": (lambda: Dataset.range(10).take(5).batch(4), Extent(None, True)),
    "pieces": (lambda: Dataset.from_tensor_slices(ARRAY).unbatch().batch(5), Extent(24, True)),
    "batched twice": (lambda: Dataset.range(10).batch(2).batch(2), Extent(None, True)),
    "unbatched": (lambda: Dataset.range(10).batch(3).unbatch(), Extent(None, False)),
    "flat": (lambda: Dataset.range(10).flat_map(Dataset.from_tensors).batch(4), Extent(None, True)),
    "remainder dropped": (lambda: Dataset.range(10).batch(4, drop_remainder=True), Extent(10, True, drops_remainder=True)),
    "padded": (lambda: Dataset.range(10).map(lambda x: tf.range(x)).padded_batch(4), Extent(10, True)),
}


@pytest.mark.parametrize("name", EXTENTS)
def test_extent(name):
    make, extent = EXTENTS[name]
    assert Extent.of(make()) == extent
