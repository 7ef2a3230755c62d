"""RandAugment on uint8 224x224x3: image by image with the usual functions of tf.image and tfa.image, and ours on batches.

Two of 14 transforms an image at magnitude 9 (Cubuk et al., arXiv 1909.13719), with the ranges of tf-models.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

BATCH = 128
SIDE = 224
OPERATIONS = 2
MAGNITUDE = 9
GREY = 128

__all__ = ["image_by_image", "input_images", "ours", "transforms"]


def input_images(folder: Path) -> tf.data.Dataset:
    """Endless (uint8 [224, 224, 3], int64 []): the middle of each photograph, decoded beforehand."""
    jpegs = [file.read_bytes() for file in sorted(folder.glob("*.jpg"))[: 2 * BATCH]]
    images = tf.stack([tf.image.resize_with_crop_or_pad(tf.io.decode_jpeg(jpeg, channels=3), SIDE, SIDE) for jpeg in jpegs])
    return tf.data.Dataset.from_tensor_slices((images, tf.range(len(jpegs), dtype=tf.int64))).repeat()


def image_by_image(folder: Path) -> tf.data.Dataset:
    """Each image through a switch of 14 transforms, twice."""
    branches = transforms(MAGNITUDE / 10)

    def augment(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        for _ in range(OPERATIONS):
            chosen = tf.random.uniform([], maxval=len(branches), dtype=tf.int32)
            image = tf.switch_case(chosen, [lambda image=image, branch=branch: branch(image) for branch in branches.values()])
            image = tf.ensure_shape(image, [SIDE, SIDE, 3])
        return image, label

    mapped = input_images(folder).map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    return mapped.batch(BATCH).prefetch(tf.data.AUTOTUNE)


def ours(folder: Path, *, interpolation: str) -> tf.data.Dataset:
    """The same on batches."""
    from hetero_tfdata import augment

    policy = augment.RandAugment(operations=OPERATIONS, magnitude=MAGNITUDE, interpolation=interpolation)
    batches = input_images(folder).batch(BATCH)
    return batches.map(augment.Chain([policy]), num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def transforms(level: float) -> dict[str, Callable[[tf.Tensor], tf.Tensor]]:
    """uint8 [H, W, 3] -> same shape and dtype, by name; `level` is magnitude / 10."""
    import tensorflow_addons as tfa

    factor, shift = 1.8 * level + 0.1, 100.0 * level  # pixels
    bits, threshold = max(1, int(4 * level)), int(256 * level)

    def signed(value: float) -> tf.Tensor:
        return tf.where(tf.random.uniform([]) < 0.5, value, -value)

    def blend(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
        one, other = tf.cast(one, tf.float32), tf.cast(other, tf.float32)
        return tf.cast(tf.clip_by_value(one + factor * (other - one), 0.0, 255.0), tf.uint8)

    def filled(image: tf.Tensor, move: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        # A fourth channel of ones shows what came from outside the image.
        moved = move(tf.concat([image, tf.ones_like(image[..., :1])], 2))
        return tf.where(moved[..., 3:] == 0, tf.constant(GREY, tf.uint8), moved[..., :3])

    def sheared(image: tf.Tensor, row: int) -> tf.Tensor:
        amount = signed(0.3 * level)
        vector = [1.0, amount, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0] if row == 0 else [1.0, 0.0, 0.0, amount, 1.0, 0.0, 0.0, 0.0]
        return filled(image, lambda wrapped: tfa.image.transform(wrapped, tf.stack(vector), interpolation="nearest"))

    def shifted(image: tf.Tensor, across: bool) -> tf.Tensor:
        offset = [signed(shift), 0.0] if across else [0.0, signed(shift)]
        return filled(image, lambda wrapped: tfa.image.translate(wrapped, tf.stack(offset), interpolation="nearest"))

    def turned(image: tf.Tensor) -> tf.Tensor:
        angle = signed(level * math.pi / 6)
        return filled(image, lambda wrapped: tfa.image.rotate(wrapped, angle, interpolation="nearest"))

    def stretched(image: tf.Tensor) -> tf.Tensor:
        values = tf.cast(image, tf.float32)
        low, high = tf.reduce_min(values, [0, 1]), tf.reduce_max(values, [0, 1])
        scaled = tf.clip_by_value((values - low) * (255.0 / tf.maximum(high - low, 1.0)), 0.0, 255.0)
        return tf.cast(tf.where(high > low, scaled, values), tf.uint8)

    def grey(image: tf.Tensor) -> tf.Tensor:
        return tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))

    def mean_grey(image: tf.Tensor) -> tf.Tensor:
        return tf.fill(tf.shape(image), tf.reduce_mean(tf.cast(tf.image.rgb_to_grayscale(image), tf.float32)))

    return {
        "AutoContrast": stretched,
        "Equalize": tfa.image.equalize,
        "Invert": lambda image: 255 - image,
        "Rotate": turned,
        "Posterize": lambda image: tf.bitwise.left_shift(
            tf.bitwise.right_shift(image, tf.constant(8 - bits, tf.uint8)), tf.constant(8 - bits, tf.uint8)
        ),
        "Solarize": lambda image: tf.where(tf.cast(image, tf.int32) < threshold, image, 255 - image),
        "Color": lambda image: blend(grey(image), image),
        "Contrast": lambda image: blend(mean_grey(image), image),
        "Brightness": lambda image: blend(tf.zeros_like(image), image),
        "Sharpness": lambda image: tfa.image.sharpness(image, factor),
        "ShearX": lambda image: sheared(image, 0),
        "ShearY": lambda image: sheared(image, 1),
        "TranslateX": lambda image: shifted(image, True),
        "TranslateY": lambda image: shifted(image, False),
    }
