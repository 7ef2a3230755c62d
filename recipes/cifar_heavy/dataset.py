"""32,000 random images of ten classes with heavy augmentation: as published, image by image, or with batch-wise operations."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

__all__ = ["CLASSES", "GRAPHS", "make_dataset", "ours", "published"]

CLASSES = 10
_IMAGES, _BUFFER = 32_000, 10_000
GRAPHS = ("ours", "published")


def make_dataset(graph: str, batch_size: int, *, images: int = _IMAGES, seed: int | None = None) -> tf.data.Dataset:
    """Endless batches of a rank: (images [B, 32, 32, 3], labels int64 [B]).

    Args:
        graph: "published": float32 in [0, 1], each image by itself; "ours": uint8 in [0, 255], whole batches at once.
        batch_size: images.
        images: in all.
        seed: of the augmentation of "ours".
    """
    numbers = np.random.default_rng(0)  # the same images on every rank
    pixels = numbers.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
    labels = numbers.integers(0, CLASSES, images)
    dataset = tf.data.Dataset.from_tensor_slices((pixels, labels)).shuffle(min(_BUFFER, images)).repeat()
    if graph == "ours":
        from hetero_tfdata.augment import presets

        return presets.cifar_heavy(dataset, batch_size, seed=seed)
    return dataset.map(_published(), num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size, drop_remainder=True).prefetch(2)


def published() -> tf.data.Dataset:
    """A rank's batches as published, for `hetero-tfdata measure dataset:published`."""
    return make_dataset("published", 1024)


def ours() -> tf.data.Dataset:
    """The same job's batches with batch-wise operations, for `hetero-tfdata measure dataset:ours`."""
    return make_dataset("ours", 1024)


def _published():
    """Grey dilation 3x3, Gaussian blur 11x11, 1/255, flip, rotation and zoom, as the article has them."""
    import tensorflow_addons as tfa

    layers = tf.keras.layers
    # made once: inside map() their variables could not be created
    random_part = tf.keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1), layers.RandomZoom(0.1)])
    flat = tf.zeros([3, 3, 3])

    def augment(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        value = tf.cast(image[tf.newaxis], tf.float32)
        grown = tf.nn.dilation2d(value, flat, [1, 1, 1, 1], "SAME", "NHWC", [1, 1, 1, 1])[0]
        smooth = tfa.image.gaussian_filter2d(grown, filter_shape=(11, 11), sigma=0.8)
        return random_part(smooth / 255.0, training=True), label

    return augment
