"""Workload C: random-resized crops of JPEGs to 224x224, flipped half of the time; the common graph, its limit, and ours.

Crops have 8 to 100 % of the area and an aspect of 3/4 to 4/3. tf.image.sample_distorted_bounding_box, which the common graph
uses, draws their height evenly: 36 % of the area on average, where DALI's and torchvision's even draw of the area gives 44 %, a
fifth more to decode. So that all do the same work the common graph is measured with an even area too, and so is decoding alone;
with its own sampler it is a contender of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

BATCH = 256
SIZE = 224
AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)
MEAN = (123.675, 116.28, 103.53)
DEVIATION = (58.395, 57.12, 57.375)
_ATTEMPTS = 10  # as torchvision and DALI
_WINDOWS = 64  # drawn beforehand for each photograph

__all__ = ["common", "common_image", "decode_only", "input_jpegs", "ours", "raw_pixels", "window"]


def input_jpegs(folder: Path, *, repeat: bool = True) -> tf.data.Dataset:
    """(JPEG bytes, int64 []) in the files' order, from memory; endless unless `repeat` is False."""
    jpegs = [file.read_bytes() for file in sorted(folder.glob("*.jpg"))]
    dataset = tf.data.Dataset.from_tensor_slices((jpegs, [number % 1000 for number in range(len(jpegs))]))
    return dataset.repeat() if repeat else dataset


def common(folder: Path, *, dct: str, even: str = "area") -> tf.data.Dataset:
    """The common graph: fused decode-and-crop, bilinear resize, flip, normalised float32.

    `even`: what of the crops is drawn evenly, "area" or "height".
    """

    def augment(jpeg: tf.Tensor, label: tf.Tensor, windows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen = _any_of(windows) if even == "area" else window(jpeg, even)
        return (_common_image(jpeg, chosen, SIZE, dct) - MEAN) / DEVIATION, label

    return _batched(folder, augment)


def common_image(jpeg: tf.Tensor, size: int) -> tf.Tensor:
    """The same of one JPEG, exact, even area, not normalised: float32 [size, size, 3] in [0, 255]."""
    return _common_image(jpeg, window(jpeg), size, "exact")


def decode_only(folder: Path, *, dct: str) -> tf.data.Dataset:
    """What no graph on this decoder can beat: the same crops, decoded and dropped. Batches of their heights."""

    def decode(jpeg: tf.Tensor, label: tf.Tensor, windows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.shape(_decode(jpeg, _any_of(windows), dct))[0], label

    return _batched(folder, decode)


def ours(folder: Path, *, dct: str) -> tf.data.Dataset:
    """The preset."""
    from hetero_tfdata.augment import presets

    return presets.imagenet_train(input_jpegs(folder), BATCH, image_size=SIZE, dct=dct)


def raw_pixels(images: tf.Tensor) -> tf.Tensor:
    """What `common` normalised -> float32 in [0, 255]."""
    return images * DEVIATION + MEAN


def _batched(folder: Path, augment: Callable[..., Any]) -> tf.data.Dataset:
    jpegs = input_jpegs(folder, repeat=False)
    once = jpegs.repeat(_WINDOWS).map(lambda jpeg, _: window(jpeg), num_parallel_calls=tf.data.AUTOTUNE)
    windows = next(iter(once.batch(_WINDOWS * int(jpegs.cardinality()))))
    windows = tf.transpose(tf.reshape(windows, [_WINDOWS, -1, 4]), [1, 0, 2])
    inputs = tf.data.Dataset.zip((jpegs, tf.data.Dataset.from_tensor_slices(windows))).repeat()
    mapped = inputs.map(lambda sample, choice: augment(*sample, choice), num_parallel_calls=tf.data.AUTOTUNE)
    return mapped.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def _any_of(windows: tf.Tensor) -> tf.Tensor:
    # Drawn beforehand: in the graph `_even_area` costs 50 us an image, sample_distorted_bounding_box costs next to nothing.
    return windows[tf.random.uniform([], maxval=_WINDOWS, dtype=tf.int32)]


def _common_image(jpeg: tf.Tensor, chosen: tf.Tensor, size: int, dct: str) -> tf.Tensor:
    image = tf.image.resize(_decode(jpeg, chosen, dct), [size, size])
    return tf.image.random_flip_left_right(image)


def window(jpeg: tf.Tensor, even: str = "area") -> tf.Tensor:
    """int32 [4]: top, left, height and width of a crop."""
    return _even_area(jpeg) if even == "area" else _even_height(jpeg)


def _even_area(jpeg: tf.Tensor) -> tf.Tensor:
    height, width = tf.unstack(tf.cast(tf.io.extract_jpeg_shape(jpeg)[:2], tf.float32))
    area = tf.random.uniform([_ATTEMPTS], *AREA) * height * width
    aspect = tf.exp(tf.random.uniform([_ATTEMPTS], *map(math.log, ASPECT)))
    down, across = tf.round(tf.sqrt(area / aspect)), tf.round(tf.sqrt(area * aspect))
    first = tf.argmax((down <= height) & (across <= width))
    down, across = tf.minimum(down[first], height), tf.minimum(across[first], width)
    place = tf.floor(tf.random.uniform([2]) * tf.stack([height - down + 1, width - across + 1]))
    return tf.cast(tf.concat([place, [down, across]], 0), tf.int32)


def _even_height(jpeg: tf.Tensor) -> tf.Tensor:
    begin, extent, _ = tf.image.sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(jpeg),
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        min_object_covered=0.0,  # the usual 0.1 would leave out the smallest crops that the others draw
        area_range=AREA,
        aspect_ratio_range=ASPECT,
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], extent[:2]], 0)


def _decode(jpeg: tf.Tensor, window: tf.Tensor, dct: str) -> tf.Tensor:
    fast = dct == "fast"
    return tf.image.decode_and_crop_jpeg(
        jpeg, window, channels=3, fancy_upscaling=not fast, dct_method="INTEGER_FAST" if fast else "INTEGER_ACCURATE"
    )
