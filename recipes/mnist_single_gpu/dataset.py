"""60,000 random digits-sized images, each blurred with a sigma of its own: heavy work for the CPUs beside one GPU."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

__all__ = ["CLASSES", "DEVIATION", "GRAPHS", "MEAN", "make_dataset"]

CLASSES = 10
GRAPHS = ("ours", "published")
MEAN, DEVIATION = 0.1307, 0.3081
_IMAGES, _BUFFER = 60_000, 10_000


def make_dataset(graph: str, batch_size: int, *, images: int = _IMAGES, seed: int | None = None) -> tf.data.Dataset:
    """Endless batches: (images [B, 28, 28, 1], labels int64 [B]).

    Args:
        graph: "published": float32, normalised, each image by itself; "ours": uint8 in [0, 255], whole batches at once.
        batch_size: images.
        images: in all.
        seed: of the blur of "ours".
    """
    numbers = np.random.default_rng(0)
    pixels = numbers.integers(0, 256, (images, 28, 28, 1), dtype=np.uint8)
    labels = numbers.integers(0, CLASSES, images)
    dataset = tf.data.Dataset.from_tensor_slices((pixels, labels)).shuffle(min(_BUFFER, images)).repeat()
    if graph == "ours":
        from hetero_tfdata.augment import presets

        return presets.mnist_heavy(dataset, batch_size, seed=seed)
    return dataset.map(_augment, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size, drop_remainder=True).prefetch(2)


def _augment(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Normalised, then blurred 11x11 as torchvision does it: one convolution, reflected at the edges."""
    value = (tf.cast(image, tf.float32) / 255.0 - MEAN) / DEVIATION
    bell = tf.exp(-0.5 * tf.square(tf.range(-5.0, 6.0) / tf.random.uniform([], 0.1, 2.0)))
    bell /= tf.reduce_sum(bell)
    kernel = (bell[:, tf.newaxis] * bell[tf.newaxis, :])[:, :, tf.newaxis, tf.newaxis]
    padded = tf.pad(value, [[5, 5], [5, 5], [0, 0]], "REFLECT")
    return tf.nn.conv2d(padded[tf.newaxis], kernel, 1, "VALID")[0], label
