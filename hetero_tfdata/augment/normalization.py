"""The accelerator's side of the wire: from bytes to numbers, where their four-fold size crosses no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from hetero_tfdata.augment.draws import Draw
from hetero_tfdata.augment.op import Batch, Op
from hetero_tfdata.errors import ConfigurationError, DatasetError

__all__ = ["IMAGENET_DEVIATION", "IMAGENET_MEAN", "Normalize", "normalize"]

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
        if _count(value) not in (1, images.shape[-1]):
            raise ConfigurationError(f"normalize: {name}: expected 1 or {images.shape[-1]} numbers, got {value!r}")
    offset, scale = tf.constant(mean, tf.float32), tf.constant(deviation, tf.float32)
    return tf.cast(tf.cast(images, tf.float32) * (1.0 / (255.0 * scale)) - offset / scale, dtype)


@dataclass(frozen=True, repr=False)
class Normalize(Op):
    """`normalize` as the last operation of a chain; `Chain.split` leaves it to the accelerator, as it makes every byte four.

    uint8 [B, H, W, C] in [0, 255] -> dtype [B, H, W, C].

    Attributes:
        mean: of the channels in 0 to 1, one for all or one for each.
        deviation: above 0, likewise.
        dtype: "float32", "float16" or "bfloat16".
    """

    mean: float | Sequence[float] = IMAGENET_MEAN
    deviation: float | Sequence[float] = IMAGENET_DEVIATION
    dtype: str = "float32"

    _DTYPES: ClassVar[tuple[str, ...]] = ("float32", "float16", "bfloat16")

    def __post_init__(self) -> None:
        self.require(self.dtype in self._DTYPES, "dtype", f"one of {', '.join(self._DTYPES)}", repr(self.dtype))
        for name in ("mean", "deviation"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)):
                value = tuple(value)  # a frozen value has to be hashable
                object.__setattr__(self, name, value)
            self.require(_count(value) in self.channels, name, "1 or 3 numbers", repr(value))
        deviations = (self.deviation,) if isinstance(self.deviation, (int, float)) else self.deviation
        self.require(min(deviations) > 0, "deviation", "numbers above 0", repr(self.deviation))

    @property
    def output_dtype(self) -> tf.DType:
        """The result's."""
        return tf.as_dtype(self.dtype)

    def check(self, images: tf.Tensor) -> None:
        """As many numbers as channels, or one."""
        super().check(images)
        for name in ("mean", "deviation"):
            count = _count(getattr(self, name))
            self.require(count in (1, images.shape[3]), name, "as many numbers as channels, or 1", count, error=DatasetError)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Computes in float32, whatever the dtype of the result."""
        return batch.replace(images=normalize(batch.images, self.mean, self.deviation, self.output_dtype))


def _count(value: float | Sequence[float]) -> int:
    return 1 if isinstance(value, (int, float)) else len(value)
