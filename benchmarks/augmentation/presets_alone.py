"""Each preset, and the same input merely batched, for the comparison of their memory.

Datasets of (images or whatever the batch holds, one number an image). All take `folder`, the photographs, and `batch`, images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from augmentation import imagenet, published
from augmentation.photographs import FRAMES


def cifar_heavy(folder: Path, batch: int) -> tf.data.Dataset:
    """(uint8 [B, 32, 32, 3], int64 [B])."""
    from hetero_tfdata.augment import presets

    return presets.cifar_heavy(published.input_images(), batch)


def cifar_heavy_input(folder: Path, batch: int) -> tf.data.Dataset:
    """Its input, batched."""
    return published.input_images().batch(batch)


def mnist_heavy(folder: Path, batch: int) -> tf.data.Dataset:
    """(uint8 [B, 28, 28, 1], int64 [B])."""
    from hetero_tfdata.augment import presets

    return presets.mnist_heavy(_digits(), batch)


def mnist_heavy_input(folder: Path, batch: int) -> tf.data.Dataset:
    """Its input, batched."""
    return _digits().batch(batch)


def imagenet_train(folder: Path, batch: int) -> tf.data.Dataset:
    """(uint8 [B, 224, 224, 3], int64 [B])."""
    from hetero_tfdata.augment import presets

    return presets.imagenet_train(imagenet.input_jpegs(folder), batch)


def imagenet_eval(folder: Path, batch: int) -> tf.data.Dataset:
    """(uint8 [B, 224, 224, 3], int64 [B])."""
    from hetero_tfdata.augment import presets

    return presets.imagenet_eval(imagenet.input_jpegs(folder), batch)


def imagenet_train_input(folder: Path, batch: int) -> tf.data.Dataset:
    """Its input, batched."""
    return imagenet.input_jpegs(folder).batch(batch)


imagenet_eval_input = imagenet_train_input


def driving_train(folder: Path, batch: int) -> tf.data.Dataset:
    """(uint8 [B, 480, 640, 3], uint8 [B]): the boxes are left behind."""
    from hetero_tfdata.augment import presets

    batches = presets.driving_train(_frames(folder), batch)
    return batches.map(lambda element: (element["images"], element["images"][:, 0, 0, 0]))


def driving_train_input(folder: Path, batch: int) -> tf.data.Dataset:
    """Its input, batched."""
    return _frames(folder).batch(batch).map(lambda element: (element["image"], element["boxes"][:, 0, 0]))


def _digits() -> tf.data.Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (published.IMAGES, 28, 28, 1), dtype=np.uint8)
    return tf.data.Dataset.from_tensor_slices((images, rng.integers(0, 10, published.IMAGES))).repeat()


def _frames(folder: Path) -> tf.data.Dataset:
    jpegs = [file.read_bytes() for file in sorted((folder / FRAMES).glob("*.jpg"))]
    corners = np.random.default_rng(0).uniform(0, 400, (len(jpegs), 5, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + 200], -1)
    return tf.data.Dataset.from_tensor_slices({"image": jpegs, "boxes": boxes}).repeat()
