"""chain.plan() and chain.split(): cheaper orders with the same pixels."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hetero_tfdata import augment
from hetero_tfdata.augment.op import TableOp
from hetero_tfdata.augment.placement import commute

RNG = np.random.default_rng(2)
BATCH = tf.constant(RNG.integers(0, 256, (4, 24, 20, 3), dtype=np.uint8))
KEYS = tf.range(4)


class Negative(TableOp):
    """A table, for these tests."""

    def table(self, draw):
        return tf.cast(255 - tf.range(256), tf.uint8)[tf.newaxis]


def same_pixels(first: augment.Chain, *then: augment.Chain) -> None:
    expected = first(BATCH, KEYS)[0]
    images = BATCH
    for chain in then:
        images = chain(images, KEYS)[0] if chain.ops else images
    np.testing.assert_array_equal(images, expected)


def test_shrinking_comes_first_where_it_commutes():
    chain = augment.Chain([Negative(), augment.RandomFlip(), augment.CenterCrop(8, 10)], seed=1, key=1)
    planned = chain.plan(24, 20)
    assert [type(op).__name__ for op in planned.chain.ops] == ["Negative", "RandomFlip", "CenterCrop"]
    chain = augment.Chain([augment.RandomFlip(), Negative(), augment.CenterCrop(8, 10)], seed=1, key=1)
    planned = chain.plan(24, 20)
    assert [type(op).__name__ for op in planned.chain.ops] == ["RandomFlip", "CenterCrop", "Negative"]
    assert planned.moves == ("CenterCrop(height=8, width=10) before Negative(): it leaves 17% of the bytes",)
    assert "moved: CenterCrop" in str(planned)
    assert [stage.bytes_out for stage in planned.stages] == [24 * 20 * 3, 8 * 10 * 3, 8 * 10 * 3]
    same_pixels(chain, planned.chain)


def test_what_does_not_commute_stays():
    chain = augment.Chain([augment.GaussianBlur(5), augment.Dilation(), augment.CenterCrop(8, 10)])
    planned = chain.plan(24, 20)
    assert planned.chain == chain
    assert planned.moves == ()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Negative(), augment.RandomFlip("horizontal_and_vertical")),
        (Negative(), augment.CenterCrop(11, 7)),
        (augment.Dilation(5), augment.RandomFlip("horizontal_and_vertical")),
        (augment.Erosion(3), augment.RandomFlip()),
    ],
)
def test_what_is_said_to_commute_does(first, second):
    assert commute(first, second)
    assert commute(second, first)
    same_pixels(augment.Chain([first, second], seed=3, key=1), augment.Chain([second, first], seed=3, key=1, positions=[1, 0]))


def test_split_sends_the_cheap_end_to_the_accelerator():
    ops = [augment.Dilation(), augment.GaussianBlur(5), augment.RandomFlip(), Negative()]
    chain = augment.Chain(ops, seed=1, key=1)
    split = chain.split(24, 20)
    assert split.data == augment.Chain(ops[:2], seed=1, key=1)
    assert split.accelerator == augment.Chain(ops[2:], seed=1, key=1, positions=[2, 3])
    assert split.wire_bytes == 24 * 20 * 3
    assert split.cpu_us is not None
    assert split.cpu_us > 0
    assert "moved: Negative() to the accelerator" in str(split)
    same_pixels(chain, split.data, split.accelerator)


def test_normalisation_crosses_no_wire():
    ops = [augment.GaussianBlur(5), augment.Normalize(dtype="float16")]
    chain = augment.Chain(ops)
    split = chain.split(24, 20)
    assert (split.data.ops, split.accelerator.ops) == ((ops[0],), (ops[1],))
    assert [stage.bytes_out for stage in split.stages] == [24 * 20 * 3, 24 * 20 * 3 * 2]
    assert split.wire_bytes == 24 * 20 * 3
    same_pixels(chain, split.data, split.accelerator)


def test_split_keeps_what_shrinks_and_what_needs_the_whole_input():
    shrinking = augment.Chain([Negative(), augment.CenterCrop(8, 10)], seed=1, key=1).split(24, 20)
    assert [type(op).__name__ for op in shrinking.data.ops] == ["CenterCrop"]
    by_fingerprint = augment.Chain([augment.Dilation(), augment.RandomFlip()], seed=1).split(24, 20)
    assert len(by_fingerprint.data.ops) == 2, "its numbers come from the bytes before the dilation"


def test_every_operation_of_the_catalogue_has_a_measured_cost():
    from hetero_tfdata.augment.catalogue import CATALOGUE
    from hetero_tfdata.augment.placement import _costs

    assert {entry.name for entry in CATALOGUE} <= set(_costs())
