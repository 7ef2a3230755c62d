"""Sources in memory divided in blocks: the same elements, fewer requests."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hetero_tfdata.service.preflight.graph import Graph
from hetero_tfdata.service.splits import block_size, in_blocks

ROWS = 4099  # 1,025 blocks of 4, the last of 3


def slices(structure) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(structure)


def rows() -> tuple[np.ndarray, np.ndarray]:
    return np.arange(ROWS * 6, dtype=np.uint16).reshape(ROWS, 2, 3), np.arange(ROWS, dtype=np.float32)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2047, 1), (2048, 2), (32_000, 31), (65_536, 64), (10**9, 64)])
def test_blocks_are_small_beside_the_source(count, size):
    assert block_size(count) == size


@pytest.mark.parametrize(
    "make",
    [
        lambda: slices(rows()[0]),
        lambda: slices(rows()),
        lambda: slices({"image": rows()[0], "label": (rows()[1],)}),
        lambda: tf.data.Dataset.range(3, 20_000, 4),
        lambda: tf.data.Dataset.range(20_000, 5, -3, output_type=tf.int32),
        lambda: slices(rows()).map(lambda x, y: (x, y + 1)).batch(64).repeat(2),
        lambda: slices(rows()).shuffle(100, seed=3).map(lambda x, y: y).prefetch(2),
    ],
    ids=["one component", "tuple", "nested", "range", "falling int32 range", "pipeline", "shuffled"],
)
def test_the_elements_and_their_order_stay(make):
    plain, divided = make(), in_blocks(make())
    assert divided.element_spec == plain.element_spec
    expected, found = list(plain.as_numpy_iterator()), list(divided.as_numpy_iterator())
    assert len(found) == len(expected) > 0
    tf.nest.map_structure(np.testing.assert_array_equal, found, expected)


def test_a_block_is_one_split():
    graph = Graph(in_blocks(slices(rows()).batch(8)))
    (source,) = [stage for stage in graph.stages if not stage.inputs]
    assert (source.kind, graph.count(source)) == ("Range", 1025)


@pytest.mark.parametrize(
    "make",
    [
        lambda: slices(np.arange(2000)),
        lambda: slices(tf.strings.as_string(tf.range(ROWS))),
        lambda: tf.data.Dataset.zip((tf.data.Dataset.range(ROWS), tf.data.Dataset.range(ROWS))),
        lambda: tf.data.TextLineDataset(["a", "b"]),
        lambda: tf.data.Dataset.from_tensors(1).repeat(),
    ],
    ids=["few", "names", "two sources", "files", "one element"],
)
def test_what_gains_nothing_is_left_as_it_is(make):
    dataset = make()
    assert in_blocks(dataset) is dataset
