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


def with_corrupt_ones(count: int, bad: list[int]) -> tf.data.Dataset:
    """(file, label, key) of which some files can't be decoded."""
    good = jpegs()
    contents = [b"no image" if number in bad else good[number % 3] for number in range(count)]
    return tf.data.Dataset.from_tensor_slices((contents, list(range(count)), [f"photo-{number}" for number in range(count)]))


def labels_of(dataset: tf.data.Dataset) -> list[list[int]]:
    return [labels.numpy().tolist() for _, labels in dataset]


@pytest.mark.parametrize("preset", [presets.imagenet_train, presets.imagenet_eval])
def test_corrupt_files_end_the_stream_by_name(preset):
    stream = iter(preset(with_corrupt_ones(8, [2, 5]), 4, image_size=32, key=2))
    expected = r"cannot be decoded: sample photo-2 .8 bytes.; repair or remove them, or pass on_corrupt=skip or replace"
    with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
        next(stream)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"the file of 8 bytes with tf.fingerprint -?[0-9]+"):
        list(preset(with_corrupt_ones(2, [1]), 4, image_size=32))


def test_corrupt_files_are_skipped_and_counted(capfd):
    dataset = presets.imagenet_train(with_corrupt_ones(12, [0, 1, 2, 3, 5, 11]), 4, image_size=32, key=2, on_corrupt="skip")
    assert labels_of(dataset) == [[4, 6, 7, 8], [9, 10]]
    lines = [line for line in capfd.readouterr().err.splitlines() if "hetero_tfdata" in line]
    skipped = "hetero_tfdata: imagenet_train: skipped"
    assert lines[0].startswith(f"{skipped} 4 of 4 files so far, now sample photo-0 (8 bytes), sample photo-1 (8 bytes), ")
    assert lines[1:] == [
        f"{skipped} 5 of 8 files so far, now sample photo-5 (8 bytes)",
        f"{skipped} 6 of 12 files so far, now sample photo-11 (8 bytes)",
    ]


def test_corrupt_files_are_replaced_by_a_neighbour(capfd):
    source = with_corrupt_ones(8, [0, 3, 4])
    dataset = presets.imagenet_train(source, 8, image_size=32, seed=1, key=2, on_corrupt="replace")
    (images, labels), *rest = dataset
    assert labels.numpy().tolist() == [1, 1, 2, 2, 2, 5, 6, 7]
    assert not rest
    np.testing.assert_array_equal(images[4], images[2])
    assert "replaced 3 of 8 files so far, now sample photo-0 (8 bytes), sample photo-3" in capfd.readouterr().err
    assert labels_of(presets.imagenet_eval(source, 3, image_size=32, on_corrupt="replace")) == [[1, 1, 2], [5, 5, 5], [6, 7]]


@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_mostly_corrupt_files_are_an_error_after_all(policy):
    dataset = presets.imagenet_train(with_corrupt_ones(256, list(range(1, 256))), 8, image_size=32, on_corrupt=policy)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"10[0-9] of 1[0-9]+ files cannot be decoded; expected good ones"):
        list(dataset)


def test_corrupt_frames_are_skipped_with_their_boxes(capfd):
    contents = [b"no image" if number in (1, 2) else jpegs()[0] for number in range(6)]
    boxes = np.tile(np.float32([0, 0, 240, 320]), (6, 1, 1))
    source = tf.data.Dataset.from_tensor_slices({"image": contents, "boxes": boxes, "id": np.arange(6)})
    source = source.map(lambda entries: {**entries, "name": entries["id"]})
    batches = list(presets.driving_train(source, 3, size=(24, 32), seed=1, key="id", on_corrupt="skip"))
    assert [batch["name"].numpy().tolist() for batch in batches] == [[0, 3, 4], [5]]
    assert [batch["images"].shape[0] for batch in batches] == [3, 1]
    assert [len(boxes) for batch in batches for boxes in batch["boxes"]] == [1, 1, 1, 1]
    assert "skipped 2 of 3 files so far, now sample 1 (8 bytes), sample 2 (8 bytes)" in capfd.readouterr().err


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


def test_normalize_as_an_operation():
    images = tf.constant(np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3) * 20)
    chain = augment.Chain([augment.Normalize(0.5, [0.1, 0.2, 0.3], dtype="float16")])
    result = chain(images)
    assert result.dtype == tf.float16
    np.testing.assert_array_equal(result, augment.normalize(images, 0.5, (0.1, 0.2, 0.3), tf.float16))
    with pytest.raises(ConfigurationError, match=r"expected Normalize.* to be the last"):
        augment.Chain([augment.Normalize(), augment.Invert()])
    with pytest.raises(ConfigurationError, match="Normalize: deviation: expected numbers above 0, got 0"):
        augment.Normalize(deviation=0)
    with pytest.raises(ConfigurationError, match="Normalize: mean: expected 1 or 3 numbers"):
        augment.Normalize((0.1, 0.2))
    with pytest.raises(ConfigurationError, match="Normalize: dtype: expected one of float32"):
        augment.Normalize(dtype="int8")
    three = augment.Chain([augment.Normalize((0.1, 0.2, 0.3), 1.0)])
    with pytest.raises(DatasetError, match="Normalize: mean: expected as many numbers as channels, or 1, got 3"):
        three(images[..., :1])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: presets.imagenet_train(files(), 0), "imagenet_train: batch_size: expected a whole number above 0, got 0"),
        (lambda: presets.imagenet_train(files(), 2, dct="slow"), "dct: expected one of fast, exact, got 'slow'"),
        (lambda: presets.imagenet_eval(files(), 2, image_size=0), "image_size: expected a whole number above 0, got 0"),
        (lambda: presets.driving_train(files(), 2, size=(0, 4)), "driving_train: size: expected a whole number above 0, got 0"),
        (lambda: presets.imagenet_train(files(), 2, on_corrupt="pass"), "on_corrupt: expected one of raise, skip, replace"),
        (lambda: presets.imagenet_train(small(8, 3), 2), "expected elements (string [] of a file's bytes, label)"),
        (lambda: presets.driving_train(files(), 2), "expected a dict with image"),
        (lambda: presets.cifar_heavy(tf.data.Dataset.range(3), 2), "cifar_heavy: dataset: expected elements (image, label)"),
    ],
)
def test_bad_input_says_what_was_expected(build, message):
    with pytest.raises((ConfigurationError, DatasetError)) as error:
        build()
    assert message in str(error.value)
