"""The datasets of the workloads A, B and D (WORKLOADS.md), as published and as this package makes them.

Each function takes `batch`, images a step, and returns an endless dataset of (images [batch, H, W, C], anything).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

AUTOTUNE = tf.data.AUTOTUNE

__all__ = ["GRAPHS"]


def cifar_published(batch: int) -> tf.data.Dataset:
    """Workload A image by image, float32 [batch, 32, 32, 3] in [0, 1]."""
    import tensorflow_addons as tfa

    layers = tf.keras.layers
    random_part = tf.keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1), layers.RandomZoom(0.1)])
    flat = tf.zeros([3, 3, 3])

    def augment(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        grown = tf.nn.dilation2d(tf.cast(image[tf.newaxis], tf.float32), flat, [1] * 4, "SAME", "NHWC", [1] * 4)[0]
        smooth = tfa.image.gaussian_filter2d(grown, filter_shape=(11, 11), sigma=0.8)
        return random_part(smooth / 255.0, training=True), label

    return _cifar_images().map(augment, num_parallel_calls=AUTOTUNE).batch(batch, drop_remainder=True).prefetch(AUTOTUNE)


def cifar_ours(batch: int) -> tf.data.Dataset:
    """Workload A with the preset, uint8 [batch, 32, 32, 3]."""
    from hetero_tfdata.augment import presets

    return presets.cifar_heavy(_cifar_images(), batch)


def mnist_published(batch: int) -> tf.data.Dataset:
    """Workload B image by image, float32 [batch, 28, 28, 1]: normalised, blurred with a sigma drawn from 0.1 to 2.

    The blur as torchvision does it: one convolution with the square kernel, reflected at the edges.
    """
    offsets = tf.range(-5.0, 6.0)

    def augment(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        value = (tf.cast(image, tf.float32) / 255.0 - 0.1307) / 0.3081
        bell = tf.exp(-0.5 * tf.square(offsets / tf.random.uniform([], 0.1, 2.0)))
        bell /= tf.reduce_sum(bell)
        kernel = (bell[:, tf.newaxis] * bell[tf.newaxis, :])[:, :, tf.newaxis, tf.newaxis]
        padded = tf.pad(value, [[5, 5], [5, 5], [0, 0]], "REFLECT")
        return tf.nn.conv2d(padded[tf.newaxis], kernel, 1, "VALID")[0], label

    return _mnist_images().map(augment, num_parallel_calls=AUTOTUNE).batch(batch, drop_remainder=True).prefetch(AUTOTUNE)


def mnist_ours(batch: int) -> tf.data.Dataset:
    """Workload B with the preset, uint8 [batch, 28, 28, 1]."""
    from hetero_tfdata.augment import presets

    return presets.mnist_heavy(_mnist_images(), batch)


def driving_ours(batch: int) -> tf.data.Dataset:
    """Workload D with the preset: (uint8 [batch, 480, 640, 3], boxes float32 [batch, (n), 4])."""
    from hetero_tfdata.augment import presets

    jpegs = [path.read_bytes() for path in sorted(Path(os.environ["SM_CHANNEL_FRAMES"]).glob("*.jpg"))]
    corners = np.random.default_rng(0).uniform(0, 400, (len(jpegs), 5, 2)).astype(np.float32)
    frames = {"image": jpegs, "boxes": np.concatenate([corners, corners + 200], -1)}
    endless = tf.data.Dataset.from_tensor_slices(frames).repeat()
    batches = presets.driving_train(endless, batch)
    return batches.map(lambda element: (element["images"], element["boxes"]))


def heavy_bytes(batch: int) -> tf.data.Dataset:
    """What costs hardly anything and weighs much: uint8 [batch, 256, 256, 3], each image of one number, and the numbers."""

    def fill(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.fill([256, 256, 3], tf.cast(number % 251, tf.uint8)), number

    return tf.data.Dataset.range(10**9).map(fill).batch(batch, drop_remainder=True)


GRAPHS: dict[str, Callable[[int], tf.data.Dataset]] = {
    "cifar_published": cifar_published,
    "cifar_ours": cifar_ours,
    "mnist_published": mnist_published,
    "mnist_ours": mnist_ours,
    "driving_ours": driving_ours,
    "heavy_bytes": heavy_bytes,
}


def _cifar_images() -> tf.data.Dataset:
    """As published: 32,000 random images of 10 classes, shuffled over 10,000, without end."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32_000, 32, 32, 3), dtype=np.uint8)
    return tf.data.Dataset.from_tensor_slices((images, rng.integers(0, 10, 32_000))).shuffle(10_000).repeat()


def _mnist_images() -> tf.data.Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60_000, 28, 28, 1), dtype=np.uint8)
    return tf.data.Dataset.from_tensor_slices((images, rng.integers(0, 10, 60_000))).shuffle(10_000).repeat()
