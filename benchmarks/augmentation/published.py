"""Workload A: dilation, blur, rescale, flip, rotation, zoom on 32x32 images, as published and as its best user would batch it.

WORKLOADS.md, A: grey dilation 3x3 (zero filter, SAME), Gaussian blur 11x11 with sigma 0.8, 1/255, random horizontal flip,
rotation of up to 0.1 turn to either side, zoom of up to 10 %; batches of 1,024, float32.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

BATCH = 1024
SIDE = 32
IMAGES = 32_000

__all__ = ["BATCH", "blurred_dilation", "image_by_image", "input_images", "keras_batches", "ours", "tfa_batches"]


def input_images() -> tf.data.Dataset:
    """Endless (uint8 [32, 32, 3], int64 []) in random order: random values, as published, of 10 classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, IMAGES)
    return tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(10_000).repeat()


def blurred_dilation(image: tf.Tensor) -> tf.Tensor:
    """The deterministic part as published: uint8 [H, W, 3] -> float32 [H, W, 3] in [0, 1]."""
    import tensorflow_addons as tfa

    dilated = tf.nn.dilation2d(
        tf.cast(image[tf.newaxis], tf.float32),
        filters=tf.zeros([3, 3, 3]),
        strides=[1, 1, 1, 1],
        padding="SAME",
        data_format="NHWC",
        dilations=[1, 1, 1, 1],
    )[0]
    return tfa.image.gaussian_filter2d(dilated, filter_shape=(11, 11), sigma=0.8) / 255.0


def image_by_image() -> tf.data.Dataset:
    """The published graph."""
    random_part = _keras_random_part()

    def augment(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return random_part(blurred_dilation(image), training=True), label

    mapped = input_images().map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    return mapped.batch(BATCH).prefetch(tf.data.AUTOTUNE)


def keras_batches() -> tf.data.Dataset:
    """The same with Keras layers on whole batches; what Keras lacks, dilation and blur, as max pooling and convolutions."""
    random_part = _keras_random_part()
    rescale = tf.keras.layers.Rescaling(1 / 255)
    bell = np.exp(-0.5 * (np.arange(-5, 6) / 0.8) ** 2)
    weights = tf.constant(np.repeat(bell[:, np.newaxis] / bell.sum(), 3, 1), tf.float32)
    down, across = weights[:, tf.newaxis, :, tf.newaxis], weights[tf.newaxis, :, :, tf.newaxis]

    def augment(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        values = tf.nn.max_pool2d(tf.cast(images, tf.float32), 3, 1, "SAME")
        values = tf.pad(values, [[0, 0], [5, 5], [5, 5], [0, 0]], "REFLECT")
        for taps in (down, across):
            values = tf.nn.depthwise_conv2d(values, taps, [1, 1, 1, 1], "VALID")
        return random_part(rescale(values), training=True), labels

    return _batches(augment)


def tfa_batches() -> tf.data.Dataset:
    """The same with TensorFlow Addons on whole batches; flip, rotation and zoom composed to one transform, as it allows."""
    import tensorflow_addons as tfa

    def augment(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        values = tf.nn.max_pool2d(tf.cast(images, tf.float32), 3, 1, "SAME")
        values = tfa.image.gaussian_filter2d(values, filter_shape=(11, 11), sigma=0.8)
        count = tf.shape(images)[0]
        turn = tfa.image.transform_ops.angles_to_projective_transforms(
            tf.random.uniform([count], -0.2 * math.pi, 0.2 * math.pi), SIDE, SIDE
        )
        scale, centre = tf.random.uniform([2, count], 0.9, 1.1), (SIDE - 1) / 2
        x, y, zero = scale[0] * tf.sign(tf.random.uniform([count], -1.0, 1.0)), scale[1], tf.zeros([count])
        zoom = tf.stack([x, zero, centre - x * centre, zero, y, centre - y * centre, zero, zero], 1)
        moved = tfa.image.transform(
            values, tfa.image.transform_ops.compose_transforms([turn, zoom]), interpolation="bilinear", fill_mode="reflect"
        )
        return moved / 255.0, labels

    return _batches(augment)


def ours() -> tf.data.Dataset:
    """The preset."""
    from hetero_tfdata.augment import presets

    return presets.cifar_heavy(input_images(), BATCH)


def _batches(augment: object) -> tf.data.Dataset:
    return input_images().batch(BATCH).map(augment, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _keras_random_part() -> tf.keras.Sequential:
    # Made here, outside of `map`, where layers may not create their variables.
    layers = tf.keras.layers
    return tf.keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1), layers.RandomZoom(0.1)])
