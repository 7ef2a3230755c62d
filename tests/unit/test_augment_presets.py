"""Whole jobs: specs, randomness, boxes, bad input."""

from __future__ import annotations

import io

import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image

from hetero_tfdata import augment
from hetero_tfdata.augment import presets
from hetero_tfdata.errors import ConfigurationError, DatasetError

PHOTOS = [skimage.data.chelsea()[:240, :320], skimage.data.astronaut()[:320, :240], skimage.data.coffee()[:240, :320]]


def jpegs() -> list[bytes]:
    files = []
    for photo in PHOTOS:
        buffer = io.BytesIO()
        Image.fromarray(photo).save(buffer, "JPEG", quality=92)
        files.append(buffer.getvalue())
    return files


def files(*more: object) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((jpegs(), [0, 1, 2], *more))


def small(side: int, channels: int, count: int = 6) -> tf.data.Dataset:
    images = np.random.default_rng(2).integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    return tf.data.Dataset.from_tensor_slices((images, np.arange(count), np.arange(count) + 100))


def first_images(dataset: tf.data.Dataset) -> np.ndarray:
    return next(iter(dataset))[0].numpy()


@pytest.mark.parametrize(
    ("preset", "side", "channels"), [(presets.cifar_heavy, 32, 3), (presets.mnist_heavy, 28, 1)], ids=["cifar", "mnist"]
)
def test_small_images(preset, side, channels):
    batches = list(preset(small(side, channels), 4, seed=1, key=2))
    assert [(images.shape, images.dtype) for images, _ in batches] == [
        ((4, side, side, channels), tf.uint8),
        ((2, side, side, channels), tf.uint8),
    ]
    assert np.concatenate([labels for _, labels in batches]).tolist() == list(range(6))
    again = first_images(preset(small(side, channels), 4, seed=1, key=2))
    np.testing.assert_array_equal(batches[0][0], again)
    np.testing.assert_array_equal(first_images(preset(small(side, channels), 2, seed=1, key=2)), again[:2])
    assert not np.array_equal(first_images(preset(small(side, channels), 4, seed=2, key=2)), again)
    assert not np.array_equal(first_images(preset(small(side, channels), 4)), first_images(preset(small(side, channels), 4)))
    assert not np.array_equal(first_images(preset(small(side, channels), 4, seed=1, key=2, epoch=1)), again)


def test_cifar_heavy_without_training_is_the_published_dilation_and_blur():
    """Within one grey level of the published operations in float32: rounding to uint8 is the only difference."""
    images = np.stack([tf.image.resize(photo, [32, 32]).numpy().round().astype(np.uint8) for photo in PHOTOS])
    dataset = tf.data.Dataset.from_tensor_slices((images, [0, 1, 2]))
    ours = first_images(presets.cifar_heavy(dataset, 3, training=False)).astype(float)
    floats = tf.cast(images, tf.float32)
    dilated = tf.nn.dilation2d(floats, tf.zeros([3, 3, 3]), [1, 1, 1, 1], "SAME", "NHWC", [1, 1, 1, 1])
    x = np.arange(-5, 6)
    kernel = np.exp(-(x**2) / (2 * 0.8**2))
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    weights = np.repeat(kernel[:, :, None, None], 3, 2).astype(np.float32)
    padded = tf.pad(dilated, [[0, 0], [5, 5], [5, 5], [0, 0]], "REFLECT")
    published = tf.nn.depthwise_conv2d(padded, weights, [1, 1, 1, 1], "VALID").numpy()
    assert np.abs(ours - published).max() <= 1


def test_mnist_heavy_without_training_changes_nothing():
    dataset = small(28, 1)
    plain = first_images(dataset.batch(6).map(lambda images, labels, keys: (images, labels)))
    np.testing.assert_array_equal(first_images(presets.mnist_heavy(dataset, 6, training=False)), plain)


def test_imagenet_train():
    keys, passes = np.array([b"a", b"b", b"c"]), np.zeros(3, np.int64)

    def run(batch_size: int = 3, **options: object) -> np.ndarray:
        return first_images(presets.imagenet_train(files(keys, passes), batch_size, image_size=64, **options))

    dataset = presets.imagenet_train(files(), 2, image_size=64)
    assert dataset.element_spec == (tf.TensorSpec([None, 64, 64, 3], tf.uint8), tf.TensorSpec([None], tf.int32))
    assert np.concatenate([labels for _, labels in dataset]).tolist() == [0, 1, 2]
    seeded = run(seed=4, key=2)
    np.testing.assert_array_equal(seeded, run(seed=4, key=2))
    np.testing.assert_array_equal(seeded[:1], run(1, seed=4, key=2))
    assert not np.array_equal(seeded, run(seed=5, key=2))
    assert not np.array_equal(seeded, run(seed=4))  # by the files' bytes
    np.testing.assert_array_equal(run(seed=4), run(seed=4))
    assert not np.array_equal(run(), run())
    exact = run(seed=4, key=2, dct="exact").astype(float)
    assert 0 < np.abs(exact - seeded).mean() < 4


def test_imagenet_train_flips_half():
    """One photograph in many crops that hold nearly all of it: the mirrored ones are nearer to the mirrored photograph."""
    file, count = jpegs()[0], 200
    dataset = tf.data.Dataset.from_tensors((file, 0)).repeat(count)
    upright, _ = next(iter(presets.imagenet_eval(dataset.take(1), 1, image_size=32)))
    upright = upright[0].numpy().astype(float)
    mirrored = 0
    for images, _ in presets.imagenet_train(dataset, 50, image_size=32):
        for image in images.numpy().astype(float):
            mirrored += np.abs(image - upright[:, ::-1]).mean() < np.abs(image - upright).mean()
    assert 0.3 < mirrored / count < 0.7


def test_imagenet_eval_is_deterministic_and_in_order():
    dataset = presets.imagenet_eval(files(), 2, image_size=48)
    first, again = (np.concatenate([images for images, _ in dataset]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (3, 48, 48, 3)


def test_driving_train_moves_boxes_with_the_pixels():
    """A red square on grey: its box surrounds what is red afterwards."""
    frame = np.full((240, 320, 3), 120, np.uint8)
    frame[80:160, 120:200] = (250, 0, 0)
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=95)
    boxes = tf.ragged.constant([[[80.0, 120.0, 160.0, 200.0]]] * 12, ragged_rank=1, inner_shape=(4,))
    source = tf.data.Dataset.from_tensor_slices({"image": [buffer.getvalue()] * 12, "id": np.arange(12), "boxes": boxes})
    dataset = presets.driving_train(source.map(_dense), 4, size=(96, 128), seed=1, key="id")
    assert dataset.element_spec["images"] == tf.TensorSpec([None, 96, 128, 3], tf.uint8)
    seen = 0
    for batch in dataset:
        assert set(batch) == {"images", "boxes"}
        for image, found in zip(batch["images"].numpy().astype(int), batch["boxes"], strict=True):
            red = (image.max(-1) - image.min(-1)) > 60
            if not len(found) or not red.any():
                assert red.sum() < 40
                continue
            seen += 1
            rows, columns = np.where(red)
            y0, x0, y1, x1 = found.numpy()[0]
            margin = 7  # the box around a turned square, and the blur
            assert abs(rows.min() - y0) < margin
            assert abs(rows.max() + 1 - y1) < margin
            assert abs(columns.min() - x0) < margin
            assert abs(columns.max() + 1 - x1) < margin
    assert seen >= 6


def _dense(entries: dict[str, object]) -> dict[str, object]:
    return (
        {**entries, "boxes": entries["boxes"].to_tensor(shape=[None, 4])} if hasattr(entries["boxes"], "to_tensor") else entries
    )


def test_normalize():
    images = tf.constant(np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3) * 20)
    expected = (images.numpy() / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(augment.normalize(images), expected, atol=1e-5)
    np.testing.assert_allclose(augment.normalize(images, 0.0, 1.0), images.numpy() / 255.0, atol=1e-6)
    assert augment.normalize(images, dtype=tf.float16).dtype == tf.float16
    with pytest.raises(DatasetError, match="expected uint8, got float32"):
        augment.normalize(tf.zeros([1, 2, 2, 3]))
    with pytest.raises(ConfigurationError, match="mean: expected 1 or 3 numbers"):
        augment.normalize(images, (0.5, 0.5))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: presets.imagenet_train(files(), 0), "imagenet_train: batch_size: expected a whole number above 0, got 0"),
        (lambda: presets.imagenet_train(files(), 2, dct="slow"), "dct: expected one of fast, exact, got 'slow'"),
        (lambda: presets.imagenet_eval(files(), 2, image_size=0), "image_size: expected a whole number of pixels"),
        (lambda: presets.imagenet_train(small(8, 3), 2), "expected elements (string [] of a file's bytes, label)"),
        (lambda: presets.driving_train(files(), 2), "expected a dict with image"),
        (lambda: presets.cifar_heavy(tf.data.Dataset.range(3), 2), "cifar_heavy: dataset: expected elements (image, label)"),
    ],
)
def test_bad_input_says_what_was_expected(build, message):
    with pytest.raises((ConfigurationError, DatasetError)) as error:
        build()
    assert message in str(error.value)
