"""The accelerator's side of the wire: from bytes to numbers, where their four-fold size crosses no network."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from hetero_tfdata.errors import ConfigurationError, DatasetError

__all__ = ["IMAGENET_DEVIATION", "IMAGENET_MEAN", "normalize"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of the training set's red, green and blue in 0 to 1, as torchvision publishes them
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def normalize(
    images: tf.Tensor,
    mean: float | Sequence[float] = IMAGENET_MEAN,
    deviation: float | Sequence[float] = IMAGENET_DEVIATION,
    dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """(images / 255 - mean) / deviation, for a model's first layer.

    Args:
        images: uint8 [..., C] in [0, 255].
        mean: in 0 to 1, one for all channels or one for each.
        deviation: above 0, likewise.
        dtype: of the result; tf.float16 or tf.bfloat16 for mixed precision. Computed in float32.

    Returns:
        `dtype`, the images' shape; normalize(images, 0, 1) is in [0, 1].
    """
    if images.dtype != tf.uint8:
        raise DatasetError(f"normalize: images: expected uint8, got {images.dtype.name}")
    for name, value in (("mean", mean), ("deviation", deviation)):
        count = 1 if isinstance(value, (int, float)) else len(value)
        if count not in (1, images.shape[-1]):
            raise ConfigurationError(f"normalize: {name}: expected 1 or {images.shape[-1]} numbers, got {value!r}")
    offset, scale = tf.constant(mean, tf.float32), tf.constant(deviation, tf.float32)
    return tf.cast(tf.cast(images, tf.float32) * (1.0 / (255.0 * scale)) - offset / scale, dtype)
