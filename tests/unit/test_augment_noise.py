"""Noise: its distribution, and that it belongs to the sample."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hetero_tfdata import errors
from hetero_tfdata.augment import Chain
from hetero_tfdata.augment import noise as n


def middle(count: int = 8, side: int = 96) -> np.ndarray:
    return np.full((count, side, side, 3), 128, np.uint8)


def noise_of(op, count: int = 8, seed: int = 1) -> np.ndarray:
    result = Chain([op], seed=seed, key=1)(middle(count), tf.range(count, dtype=tf.int64))[0]
    return result.numpy().astype(float) - 128


def test_noise_is_gaussian():
    values = noise_of(n.RandomNoise(20.0))
    assert abs(values.mean()) < 0.2
    assert abs(values.std() - 20.0) < 0.2
    assert abs((values**3).mean() / 20**3) < 0.05
    assert abs((values**4).mean() / 20**4 - 3.0) < 0.1


def test_noise_of_neighbours_channels_and_samples_is_unrelated():
    values = noise_of(n.RandomNoise(20.0))

    def related(first: np.ndarray, second: np.ndarray) -> float:
        return abs(float(np.corrcoef(first.ravel(), second.ravel())[0, 1]))

    assert related(values[:, 1:], values[:, :-1]) < 0.01
    assert related(values[:, :, 1:], values[:, :, :-1]) < 0.01
    assert related(values[..., 0], values[..., 1]) < 0.01
    assert related(values[1:], values[:-1]) < 0.01


def test_a_pair_draws_the_deviation():
    deviations = noise_of(n.RandomNoise((5.0, 25.0)), 256).std(axis=(1, 2, 3))
    assert 4.8 < deviations.min() < 6
    assert 24 < deviations.max() < 25.3
    assert abs(deviations.mean() - 15) < 1.2


def test_no_deviation_changes_nothing_and_the_ends_are_clipped():
    np.testing.assert_array_equal(noise_of(n.RandomNoise(0)), 0)
    ends = np.zeros((1, 64, 64, 3), np.uint8)
    ends[:, 32:] = 255
    result = Chain([n.RandomNoise(50.0)])(ends).numpy().astype(int)
    assert result[:, :32].max() < 255, "nothing wraps around"
    assert result[:, 32:].min() > 0
    assert abs((result[:, :32] == 0).mean() - 0.5) < 0.05


@pytest.mark.parametrize("op", [n.RandomNoise(10.0), n.SaltAndPepper(0.1)], ids=repr)
def test_pixels_belong_to_the_sample(op):
    chain, keys = Chain([op], seed=3, key=1), tf.range(8, dtype=tf.int64)
    whole = chain(middle(), keys)[0].numpy()
    np.testing.assert_array_equal(chain(middle(3), keys[5:])[0], whole[5:])
    np.testing.assert_array_equal(chain(middle(1), keys[4:5])[0], whole[4:5])
    assert len({image.tobytes() for image in whole}) == 8
    assert not np.array_equal(Chain([op], seed=4, key=1)(middle(), keys)[0], whole)
    dataset = tf.data.Dataset.from_tensor_slices((middle(), keys)).batch(3).map(chain)
    np.testing.assert_array_equal(np.concatenate([images.numpy() for images, _ in dataset]), whole)
    graph = tf.function(chain).get_concrete_function(tf.constant(middle()), keys).graph.as_graph_def()
    assert "PyFunc" not in str(graph)


def test_salt_and_pepper_replace_whole_pixels_at_their_rates():
    values = noise_of(n.SaltAndPepper(0.2, salt=0.25)) + 128
    assert set(np.unique(values)) == {0, 128, 255}
    assert (values == values[..., :1]).all(), "all channels alike"
    assert abs((values == 255).mean() - 0.05) < 0.005
    assert abs((values == 0).mean() - 0.15) < 0.005


@pytest.mark.parametrize(
    ("build", "phrase"),
    [
        (lambda: n.RandomNoise(-1), "RandomNoise: deviation: expected grey levels from 0 to 255, or a pair in order, got -1"),
        (lambda: n.RandomNoise((9, 3)), r"RandomNoise: deviation: expected .* got \(9, 3\)"),
        (lambda: n.RandomNoise("loud"), "RandomNoise: deviation: expected .* got 'loud'"),
        (lambda: n.SaltAndPepper(2.0), "SaltAndPepper: probability: expected a probability from 0 to 1, got 2.0"),
        (lambda: n.SaltAndPepper(salt=-1), "SaltAndPepper: salt: expected a probability from 0 to 1, got -1"),
    ],
)
def test_constructor_errors_name_operation_argument_expected_and_got(build, phrase):
    with pytest.raises(errors.ConfigurationError, match=phrase):
        build()
