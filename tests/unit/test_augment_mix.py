"""MixUp and CutMix: the labels follow the pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from hetero_tfdata import errors
from hetero_tfdata.augment import Chain
from hetero_tfdata.augment import mix as m
from hetero_tfdata.augment.draws import Draw, sample_seeds


def plain(count: int, height: int = 20, width: int = 30) -> np.ndarray:
    """Sample i is of one grey level, 10 i."""
    levels = (10 * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def one_hot(count: int) -> tf.Tensor:
    return tf.one_hot(tf.range(count), count)


def drawn(alpha: float, count: int = 4096) -> np.ndarray:
    return m._beta(Draw(sample_seeds(count, seed=1, key=tf.range(count, dtype=tf.int64)), 0), alpha).numpy()


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0, 4.0])
def test_the_kept_part_is_beta_distributed(alpha):
    values = np.sort(drawn(alpha).astype(float))
    assert np.isfinite(values).all()
    assert values[0] >= 0
    assert values[-1] <= 1
    assert abs(values.mean() - 0.5) < 0.02
    assert abs(values.var() - 1 / (4 * (2 * alpha + 1))) < 0.01
    # Kolmogorov's distance, away from the ends, where float32 rounds to 0 and 1
    places = np.linspace(0.01, 0.99, 50)
    expected = tf.math.betainc(alpha, alpha, tf.constant(places, tf.float32)).numpy()
    measured = np.searchsorted(values, places) / len(values)
    assert np.abs(measured - expected).max() < 1.95 / math.sqrt(len(values)), "1 in 1,000"


@pytest.mark.parametrize("op", [m.MixUp(), m.MixUp(1.0), m.CutMix(), m.CutMix(0.3)], ids=repr)
def test_labels_sum_to_one_and_match_the_pixels(op):
    count = 20
    images, labels = Chain([op], seed=1)(tf.constant(plain(count)), one_hot(count))
    labels = labels.numpy()
    np.testing.assert_allclose(labels.sum(1), 1.0, atol=1e-6)
    means = images.numpy().astype(float).mean(axis=(1, 2, 3))
    tolerance = 0.51 if isinstance(op, m.MixUp) else 1e-3
    np.testing.assert_allclose(means, labels @ (10.0 * np.arange(count)), atol=tolerance)
    neighbours = (np.arange(count) - 1) % count
    own = labels[np.arange(count), np.arange(count)]
    np.testing.assert_allclose(own + labels[np.arange(count), neighbours], 1.0, atol=1e-6)
    assert own.std() > 0.02, "each sample draws its own"


def test_cutmix_pastes_one_rectangle():
    batch = np.zeros((16, 20, 30, 3), np.uint8)
    batch[::2] = 255
    mixed = Chain([m.CutMix()], seed=2, key=2)(tf.constant(batch), one_hot(16), tf.range(16))[0].numpy()
    areas = []
    for image, own in zip(mixed, batch, strict=True):
        pasted = image[..., 0] != own[..., 0]
        areas.append(pasted.mean())
        if pasted.any():
            rows, columns = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
            assert pasted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            assert pasted.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    assert max(areas) > 0.2


def test_cutmix_rectangles_lie_everywhere():
    count = 2048
    batch = np.zeros((count, 8, 8, 1), np.uint8)
    batch[::2] = 255
    labels = tf.zeros([count, 1])
    mixed = Chain([m.CutMix()], seed=2, key=2)(tf.constant(batch), labels, tf.range(count))[0].numpy()
    rate = (mixed != batch)[..., 0].mean(0)
    np.testing.assert_allclose(rate, rate[::-1, ::-1], atol=0.08)
    assert rate.min() > 0.1


@pytest.mark.parametrize("op", [m.MixUp(), m.CutMix()], ids=repr)
def test_the_parameters_belong_to_the_sample(op):
    chain, keys = Chain([op], seed=3, key=2), tf.range(6, dtype=tf.int64)
    batch = tf.constant(plain(6))
    first = chain(batch, one_hot(6), keys)
    np.testing.assert_array_equal(first[0], chain(batch, one_hot(6), keys)[0])
    assert not np.array_equal(first[0], chain(batch, one_hot(6), keys + 10)[0])
    part = chain(batch[2:], one_hot(6)[2:], keys[2:])
    np.testing.assert_allclose(part[1][1:], first[1][3:], err_msg="the neighbour is the same from the second on")
    np.testing.assert_array_equal(part[0][1:], first[0][3:])


@pytest.mark.parametrize("op", [m.MixUp(), m.CutMix()], ids=repr)
def test_inside_map_equals_eager(op):
    chain, batch, keys = Chain([op], seed=3, key=2), plain(6), tf.range(6, dtype=tf.int64)
    dataset = tf.data.Dataset.from_tensors((batch, one_hot(6), keys)).map(chain)
    assert dataset.element_spec[0] == tf.TensorSpec([6, 20, 30, 3], tf.uint8)
    images, labels, _ = next(iter(dataset))
    expected = chain(tf.constant(batch), one_hot(6), keys)
    np.testing.assert_array_equal(images, expected[0])
    np.testing.assert_allclose(labels, expected[1], atol=1e-6)
    graph = tf.function(chain).get_concrete_function(tf.constant(batch), one_hot(6), keys).graph.as_graph_def()
    assert "PyFunc" not in str(graph)


@pytest.mark.parametrize("op", [m.MixUp(), m.CutMix()], ids=repr)
def test_a_batch_of_one_stays(op):
    images, labels = Chain([op], seed=3)(tf.constant(plain(2)[1:]), one_hot(2)[1:])
    np.testing.assert_array_equal(images, plain(2)[1:])
    np.testing.assert_allclose(labels, one_hot(2)[1:], atol=1e-6)


@pytest.mark.parametrize("op", [m.MixUp(), m.CutMix()], ids=repr)
@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (tf.range(4), r"int32 \(4,\)"),
        (tf.one_hot(tf.range(4), 4, dtype=tf.int64), r"int64 \(4, 4\)"),
        (tf.zeros([4, 2, 2]), r"float32 \(4, 2, 2\)"),
        (None, "none"),
    ],
)
def test_labels_of_the_wrong_form_are_named(op, labels, got):
    element = (tf.constant(plain(4)),) if labels is None else (tf.constant(plain(4)), labels)
    phrase = rf"{type(op).__name__}: labels: expected float one-hot labels \[B, K\] \(see tf.one_hot\), got {got}"
    with pytest.raises(errors.DatasetError, match=phrase):
        Chain([op])(*element)


def test_masks_cannot_be_mixed():
    element = {"images": tf.constant(plain(2)), "masks": tf.zeros([2, 20, 30, 1], tf.uint8)}
    with pytest.raises(errors.DatasetError, match="MixUp: masks: expected none, for they cannot be mixed"):
        Chain([m.MixUp()])(element, one_hot(2))


@pytest.mark.parametrize("alpha", [0, -1.0, "1", True])
def test_constructor_errors(alpha):
    with pytest.raises(errors.ConfigurationError, match="CutMix: alpha: expected a number above 0, got"):
        m.CutMix(alpha)
