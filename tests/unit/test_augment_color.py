"""Colour: each operation against PIL, tf.image or tfa.image, within one grey level."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from hetero_tfdata import augment as c
from hetero_tfdata import errors
from hetero_tfdata.augment import Chain, bands, color_kernels
from hetero_tfdata.augment.draws import Draw, sample_seeds
from hetero_tfdata.augment.op import Batch, Op, look_up


def photo_like(count: int = 3, height: int = 37, width: int = 41, channels: int = 3) -> np.ndarray:
    """Smooth gradients with noise, of another range in each channel and sample."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:height, 0:width]
    batch = np.zeros((count, height, width, channels))
    for sample in range(count):
        for channel in range(channels):
            wave = np.sin(x / (4 + sample + channel)) * np.cos(y / (6 - channel)) + rng.normal(0, 0.15, x.shape)
            batch[sample, ..., channel] = 120 + 10 * channel + (30 + 18 * sample) * wave
    return batch.clip(0, 255).astype(np.uint8)


def run(op, batch: np.ndarray) -> np.ndarray:
    return Chain([op])(tf.constant(batch)).numpy()


def by_pil(function, batch: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(function(Image.fromarray(image))) for image in batch])


def worst(first, second) -> int:
    return int(np.abs(np.asarray(first).astype(int) - np.asarray(second).astype(int)).max())


@pytest.mark.parametrize(
    ("op", "function"),
    [
        (c.Invert(), ImageOps.invert),
        (c.Solarize(), ImageOps.solarize),
        (c.Solarize(0), lambda image: ImageOps.solarize(image, 0)),
        (c.Solarize(256), lambda image: ImageOps.solarize(image, 256)),
        (c.Posterize(1), lambda image: ImageOps.posterize(image, 1)),
        (c.Posterize(3), lambda image: ImageOps.posterize(image, 3)),
        (c.Posterize(8), lambda image: ImageOps.posterize(image, 8)),
        (c.Equalize(), ImageOps.equalize),
    ],
    # the functions' repr holds an address, another one in each process that runs tests side by side
    ids=lambda value: repr(value) if isinstance(value, Op) else "",
)
def test_equals_pil_exactly(op, function):
    batch = photo_like()
    np.testing.assert_array_equal(run(op, batch), by_pil(function, batch))


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 1.9])
@pytest.mark.parametrize(
    ("op", "enhance"),
    [
        (c.Brightness, ImageEnhance.Brightness),
        (c.Contrast, ImageEnhance.Contrast),
        (c.Saturation, ImageEnhance.Color),
        (c.Sharpness, ImageEnhance.Sharpness),
    ],
)
def test_factors_mean_what_they_mean_to_pil(op, enhance, factor):
    batch = photo_like()
    result = run(op(factor), batch)
    assert worst(result, by_pil(lambda image: enhance(image).enhance(factor), batch)) <= 1
    if factor == 1.0:
        np.testing.assert_array_equal(result, batch)


def test_autocontrast_equals_pil():
    batch = photo_like()
    batch[1, ..., 2] = 77  # a channel of one value stays
    result = run(c.AutoContrast(), batch)
    assert worst(result, by_pil(ImageOps.autocontrast, batch)) <= 1
    assert result[0].min(axis=(0, 1)).tolist() == [0, 0, 0]
    assert result[0].max(axis=(0, 1)).tolist() == [255, 255, 255]


@pytest.mark.parametrize("height", [1, 2, 3, 7, 8])
def test_autocontrast_sees_every_row(height):
    for row in range(height):
        batch = np.full((1, height, 4, 1), 100, np.uint8)
        batch[0, row, 1], batch[0, row, 2] = 90, 110
        assert set(run(c.AutoContrast(), batch)[0, row, :3, 0]) == {128, 0, 255}


def test_equalize_and_sharpness_equal_addons():
    addons = pytest.importorskip("tensorflow_addons")
    batch = photo_like()
    assert worst(run(c.Equalize(), batch), addons.image.equalize(batch)) == 0
    for factor in (0.0, 0.6, 1.8):
        # tfa drops the fraction of the smooth image too, and the blend doubles that
        assert worst(run(c.Sharpness(factor), batch), addons.image.sharpness(tf.constant(batch), factor)) <= 1


def test_equalize_of_large_images_and_of_few_pixels():
    """Large images go one by one, small ones as a batch; one value, or fewer than 255 pixels, stay."""
    large = photo_like(2, 70, 90)
    np.testing.assert_array_equal(run(c.Equalize(), large), by_pil(ImageOps.equalize, large))
    plain = np.full((2, 40, 40, 3), 9, np.uint8)
    np.testing.assert_array_equal(run(c.Equalize(), plain), plain)
    few = photo_like(2, 10, 10)
    np.testing.assert_array_equal(run(c.Equalize(), few), few)


@pytest.mark.parametrize("delta", [-0.5, -0.17, 0.0, 0.08, 0.4])
@pytest.mark.parametrize("size", [(37, 41), (70, 90)])
def test_hue_equals_tensorflows(delta, size):
    batch = np.random.default_rng(2).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    batch[0, :5] = 100  # grey has no hue
    batch[0, 5:9, :, :2] = 200  # two equal channels
    assert worst(run(c.Hue(delta), batch), tf.image.adjust_hue(batch, delta)) <= 1


def test_gamma_equals_tensorflows():
    batch = photo_like()
    for gamma in (0.4, 1.0, 2.2):
        assert worst(run(c.Gamma(gamma), batch), tf.image.adjust_gamma(tf.constant(batch), gamma)) <= 1


def test_grayscale_equals_tensorflows_and_pils():
    batch = photo_like()
    grey = run(c.Grayscale(), batch)
    assert worst(grey, tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(batch))) <= 1
    np.testing.assert_array_equal(grey[..., 0], by_pil(lambda image: image.convert("L"), batch))


@pytest.mark.parametrize(("height", "count"), [(480, 8), (479, 1)], ids=["cut into bands", "a prime height"])
def test_a_large_image_has_its_hue_turned_in_bands_with_each_samples_own_turn(height, count):
    assert bands.band_count(tf.zeros([1, height, 640, 3], tf.uint8)) == count
    batch = photo_like(2, height=height, width=640)
    turns = tf.constant([0.1, -0.3])
    done = bands.in_bands(Batch(tf.constant(batch), tf.zeros([2], tf.uint64)), color_kernels.hue_rows, turns)
    for image, result, turn in zip(batch, done.images, turns, strict=True):
        assert worst(result, tf.image.adjust_hue(image, turn)) <= 1


@pytest.mark.parametrize(
    "op", [c.Saturation(0.0), c.Grayscale(), c.RandomGrayscale(1.0), c.Hue(0.3), c.RandomHue(0.3)], ids=repr
)
def test_colour_of_one_channel_stays(op):
    batch = photo_like(channels=1)
    np.testing.assert_array_equal(run(op, batch), batch)


@pytest.mark.parametrize(
    ("op", "function"),
    [(c.Contrast(1.7), lambda image: ImageEnhance.Contrast(image).enhance(1.7)), (c.Equalize(), ImageOps.equalize)],
    ids=["contrast", "equalize"],
)
def test_one_channel_equals_pil(op, function):
    batch = photo_like(channels=1)
    assert worst(run(op, batch)[..., 0], by_pil(function, batch[..., 0])) <= 1


def test_tables_are_fused_with_no_result_changed():
    batch = photo_like()
    ops = [c.Brightness(1.4), c.Solarize(100), c.RandomInvert(0.5), c.Posterize(4), c.RandomGamma(0.5)]
    assert len(Chain(ops, seed=1).ops) == 1
    fixed, step = [c.Brightness(1.4), c.Solarize(100), c.Invert(), c.Posterize(4), c.Gamma(0.5)], batch
    for op in fixed:
        step = run(op, step)
    np.testing.assert_array_equal(Chain(fixed)(batch), step)


RANDOM = [
    c.RandomBrightness(0.5),
    c.RandomContrast(0.5),
    c.RandomSaturation(0.5),
    c.RandomSharpness(1.0),
    c.RandomHue(0.2),
    c.RandomGamma(0.5),
    c.RandomInvert(0.5),
    c.RandomGrayscale(0.5),
    c.ColorJitter(0.4, 0.4, 0.4, 0.1),
]


@pytest.mark.parametrize("op", RANDOM, ids=repr)
def test_pixels_belong_to_the_sample(op):
    batch = np.concatenate([photo_like(1)] * 8)
    chain = Chain([op], seed=3, key=1)
    keys = tf.range(8, dtype=tf.int64)
    whole = chain(batch, keys)[0].numpy()
    np.testing.assert_array_equal(chain(batch[:3], keys[5:])[0], whole[5:], "another batch, the same pixels")
    np.testing.assert_array_equal(chain(batch[:1], keys[4:5])[0], whole[4:5], "a batch of one")
    assert len({image.tobytes() for image in whole}) >= 2, "another key, other pixels"
    assert not np.array_equal(Chain([op], seed=4, key=1)(batch, keys)[0], whole), "another seed, other pixels"


@pytest.mark.parametrize(
    "op", [*RANDOM, c.Equalize(), c.AutoContrast(), c.Sharpness(1.5), c.Hue(0.2), c.Contrast(0.5)], ids=repr
)
def test_inside_map_equals_eager(op):
    chain = Chain([op], seed=1, key=1)
    batch, keys = photo_like(5, 66, 68), tf.range(5, dtype=tf.int64)  # large enough to go one by one
    dataset = tf.data.Dataset.from_tensor_slices((batch, keys)).batch(3).map(chain)
    assert dataset.element_spec[0] == tf.TensorSpec([None, 66, 68, 3], tf.uint8)
    mapped = np.concatenate([images.numpy() for images, _ in dataset])
    np.testing.assert_array_equal(mapped, chain(batch, keys)[0])
    graph = tf.function(chain).get_concrete_function(tf.constant(batch), keys).graph.as_graph_def()
    assert "PyFunc" not in str(graph)


def test_color_jitter_is_one_operation_after_the_other():
    batch = photo_like()
    jitter = c.ColorJitter((1.3, 1.3), (0.6, 0.6), (1.5, 1.5), (0.1, 0.1))
    step = batch
    for op in (c.Brightness(1.3), c.Contrast(0.6), c.Saturation(1.5), c.Hue(0.1)):
        step = run(op, step)
    assert worst(run(jitter, batch), step) <= 1
    np.testing.assert_array_equal(run(c.ColorJitter(), batch), batch)


def test_drawn_factors_fill_their_range():
    """The middle of a table tells the factor: brightness, gamma; of a hue, the colour of red."""
    draw = Draw(sample_seeds(4096, seed=1, key=tf.range(4096, dtype=tf.int64)), 0)
    brightness = c.RandomBrightness(0.5).table(draw).numpy()[:, 100] / 100
    assert 0.5 <= brightness.min() < 0.51
    assert 1.49 < brightness.max() <= 1.5
    assert abs(brightness.mean() - 1.0) < 0.02
    pair = c.RandomBrightness((0.2, 0.4)).table(draw).numpy()[:, 100] / 100
    assert 0.2 <= pair.min() < 0.21
    assert 0.39 < pair.max() <= 0.4
    never_negative = c.RandomBrightness(2.0).table(draw).numpy()[:, 50] / 50
    assert abs(never_negative.mean() - 1.5) < 0.1, "from 0 to 3"
    gamma = np.log(c.RandomGamma(0.5).table(draw).numpy()[:, 128] / 255) / np.log(128 / 255)
    assert 0.49 < gamma.min() < 0.52
    assert 1.48 < gamma.max() < 1.52
    inverted = c.RandomInvert(0.3).table(draw).numpy()[:, 0] == 255
    assert abs(inverted.mean() - 0.3) < 0.03


def test_drawn_factors_of_what_is_no_table():
    keys = tf.range(4096, dtype=tf.int64)
    pixels = np.zeros((4096, 1, 2, 3), np.uint8)
    pixels[:, :, 0], pixels[:, :, 1] = 90, 110
    spread = np.diff(Chain([c.RandomContrast(0.5)], seed=1, key=1)(pixels, keys)[0].numpy().astype(int)[..., 0], axis=2) / 20
    assert 0.5 <= spread.min() <= 0.55
    assert 1.45 <= spread.max() <= 1.5
    assert abs(spread.mean() - 1.0) < 0.03
    reddish = np.full((4096, 1, 1, 3), 100, np.uint8)
    reddish[..., 0] = 200
    green = Chain([c.RandomHue(0.1)], seed=1, key=1)(reddish, keys)[0].numpy()[:, 0, 0, 1]
    assert 0.45 < (green > 100).mean() < 0.55, "half of the turns are forwards"
    assert 155 <= green.max() <= 161, "a tenth of a turn is 0.6 of the way from red to yellow"
    grey = Chain([c.RandomGrayscale(0.2)], seed=1, key=1)(reddish, keys)[0].numpy()[:, 0, 0]
    assert abs((grey[:, 0] == grey[:, 1]).mean() - 0.2) < 0.03


@pytest.mark.parametrize(
    ("build", "phrase"),
    [
        (lambda: c.Solarize(300), "Solarize: threshold: expected a number from 0 to 256, got 300"),
        (lambda: c.Posterize(0), "Posterize: bits: expected a whole number from 1 to 8, got 0"),
        (lambda: c.Posterize(2.5), "Posterize: bits: expected a whole number from 1 to 8, got 2.5"),
        (lambda: c.Brightness(-1), "Brightness: factor: expected a number of at least 0, got -1"),
        (lambda: c.Contrast((0.5, 1.5)), r"Contrast: factor: expected a number of at least 0, got \(0.5, 1.5\)"),
        (lambda: c.RandomContrast((1.5, 0.5)), "RandomContrast: factor: expected .* or a pair of at least 0 in order"),
        (lambda: c.RandomSaturation(-0.1), "RandomSaturation: factor: expected a number of at least 0, or a pair"),
        (lambda: c.RandomGamma(1.0), "RandomGamma: gamma: expected a number of at least 0 and below 1, or a pair above 0"),
        (lambda: c.Gamma(0), "Gamma: gamma: expected a number above 0, got 0"),
        (lambda: c.Hue(0.7), "Hue: delta: expected a number from -0.5 to 0.5, got 0.7"),
        (lambda: c.RandomHue((-0.7, 0.1)), "RandomHue: delta: expected a part of a turn from 0 to 0.5, or a pair"),
        (lambda: c.RandomInvert(1.2), "RandomInvert: probability: expected a probability from 0 to 1, got 1.2"),
        (lambda: c.RandomGrayscale("no"), "RandomGrayscale: probability: expected a probability from 0 to 1, got 'no'"),
        (lambda: c.ColorJitter(contrast=-1), "ColorJitter: contrast: expected a number of at least 0, or a pair"),
        (lambda: c.ColorJitter(hue=0.6), "ColorJitter: hue: expected a part of a turn"),
    ],
)
def test_constructor_errors_name_operation_argument_expected_and_got(build, phrase):
    with pytest.raises(errors.ConfigurationError, match=phrase):
        build()


@pytest.mark.parametrize("tables", [1, 4])
def test_a_table_of_a_number_of_rows_that_the_trace_does_not_know(tables):
    """tf.function relaxes shapes that it has seen with several sizes."""
    images = tf.constant(photo_like(4))
    table = tf.constant(np.random.default_rng(0).integers(0, 256, (tables, 256)), tf.uint8)
    looked_up = tf.function(lambda table: look_up(images, table), input_signature=[tf.TensorSpec([None, 256], tf.uint8)])(table)
    for sample in range(4):
        np.testing.assert_array_equal(looked_up[sample], table.numpy()[min(sample, tables - 1)][images[sample]])
