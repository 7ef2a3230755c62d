"""Geometry: where a pixel goes. Boxes and masks follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from hetero_tfdata.augment.boxes import move_boxes
from hetero_tfdata.augment.draws import Draw
from hetero_tfdata.augment.op import AffineOp, Batch, as_pair, compiled

__all__ = ["RandomFlip", "RandomRotation", "RandomShear", "RandomTranslation", "RandomZoom"]


@dataclass(frozen=True, repr=False)
class RandomFlip(AffineOp):
    """Mirrors a sample with a probability.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype; exact, no pixel is interpolated.

    Attributes:
        mode: "horizontal" (left to right), "vertical" or "horizontal_and_vertical" (each by itself).
        probability: of a flip.
    """

    mode: str = "horizontal"
    probability: float = 0.5

    is_random: ClassVar[bool] = True
    _MODES: ClassVar[tuple[str, ...]] = ("horizontal", "vertical", "horizontal_and_vertical")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.mode in self._MODES, "mode", f"one of {', '.join(self._MODES)}", repr(self.mode))
        self.require_probability("probability", self.probability)

    def transforms(self, draw: Draw, height: int, width: int) -> tf.Tensor:
        """The mirrored axis runs backwards."""
        left_right, up_down = draw.happens(self.probability), draw.happens(self.probability)
        no = tf.zeros_like(left_right)
        left_right = left_right if self.mode != "vertical" else no
        up_down = up_down if self.mode != "horizontal" else no
        x, y = (tf.where(flip, -1.0, 1.0) for flip in (left_right, up_down))
        zero = tf.zeros_like(x)
        x_offset, y_offset = tf.where(left_right, width - 1.0, 0.0), tf.where(up_down, height - 1.0, 0.0)
        return tf.stack([x, zero, x_offset, zero, y, y_offset, zero, zero], 1)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """By itself a choice between each image and its mirror image, a tenth of a sampling's cost."""
        transforms = self.transforms(draw, batch.height, batch.width)
        left_right, up_down = transforms[:, 0] < 0, transforms[:, 4] < 0
        images = _mirror(batch.images, left_right, up_down, self.mode)
        masks = None if batch.masks is None else _mirror(batch.masks, left_right, up_down, self.mode)
        boxes = None if batch.boxes is None else move_boxes(batch.boxes, transforms, batch.height, batch.width)
        return batch.replace(images=images, masks=masks, boxes=boxes)


@compiled
def _mirror(images: tf.Tensor, left_right: tf.Tensor, up_down: tf.Tensor, mode: str) -> tf.Tensor:
    if mode != "vertical":
        images = tf.where(tf.reshape(left_right, [-1, 1, 1, 1]), tf.reverse(images, [2]), images)
    if mode != "horizontal":
        images = tf.where(tf.reshape(up_down, [-1, 1, 1, 1]), tf.reverse(images, [1]), images)
    return images


@dataclass(frozen=True, repr=False)
class RandomRotation(AffineOp):
    """Turns a sample around its centre.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype.

    Attributes:
        factor: of a full turn: 0.1 draws an angle between -36 and +36 degrees; a pair gives both ends. Positive is
            counterclockwise, as in tf.keras.layers.RandomRotation.
    """

    factor: float | tuple[float, float]

    is_random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = as_pair(self.factor)
        self.require(-1.0 <= low <= high <= 1.0, "factor", "parts of a turn from -1 to 1", repr(self.factor))

    def transforms(self, draw: Draw, height: int, width: int) -> tf.Tensor:
        """A rotation of coordinates around the middle of the pixel grid."""
        low, high = as_pair(self.factor)
        angle = draw.uniform(low * 2 * math.pi, high * 2 * math.pi)
        cosine, sine = tf.cos(angle), tf.sin(angle)
        return _around_centre(cosine, -sine, sine, cosine, height, width)


@dataclass(frozen=True, repr=False)
class RandomZoom(AffineOp):
    """Scales a sample around its centre.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype.

    Attributes:
        factor: 0.1 draws between -10 % and +10 %; a pair gives both ends. Negative zooms in, positive out, as in
            tf.keras.layers.RandomZoom.
        keep_aspect: draws one factor for both axes; else one for each.
    """

    factor: float | tuple[float, float]
    keep_aspect: bool = True

    is_random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = as_pair(self.factor)
        self.require(-1.0 < low <= high, "factor", "a change of size above -1", repr(self.factor))

    def transforms(self, draw: Draw, height: int, width: int) -> tf.Tensor:
        """Coordinates scaled around the middle of the pixel grid."""
        low, high = as_pair(self.factor)
        x = draw.uniform(1.0 + low, 1.0 + high)
        y = x if self.keep_aspect else draw.uniform(1.0 + low, 1.0 + high)
        return _around_centre(x, tf.zeros_like(x), tf.zeros_like(x), y, height, width)


@dataclass(frozen=True, repr=False)
class RandomTranslation(AffineOp):
    """Shifts a sample.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype.

    Attributes:
        height_factor: of the height; 0.1 draws between -10 % (up) and +10 % (down); a pair gives both ends.
        width_factor: of the width, likewise; negative is to the left.
    """

    height_factor: float | tuple[float, float]
    width_factor: float | tuple[float, float]

    is_random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("height_factor", "width_factor"):
            low, high = as_pair(getattr(self, name))
            self.require(-1.0 <= low <= high <= 1.0, name, "parts of the image from -1 to 1", repr(getattr(self, name)))

    def transforms(self, draw: Draw, height: int, width: int) -> tf.Tensor:
        """An offset."""
        up, down = as_pair(self.height_factor)
        left, right = as_pair(self.width_factor)
        down, right = draw.uniform(up * height, down * height), draw.uniform(left * width, right * width)
        one, zero = tf.ones_like(down), tf.zeros_like(down)
        return tf.stack([one, zero, -right, zero, one, -down, zero, zero], 1)


@dataclass(frozen=True, repr=False)
class RandomShear(AffineOp):
    """Slants a sample around its centre.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype.

    Attributes:
        x_factor: 0.3 draws a shift of up to 0.3 pixels sideways for each pixel downwards; a pair gives both ends.
        y_factor: of up to so many pixels down for each pixel sideways.
    """

    x_factor: float | tuple[float, float] = 0.0
    y_factor: float | tuple[float, float] = 0.0

    is_random: ClassVar[bool] = True

    def transforms(self, draw: Draw, height: int, width: int) -> tf.Tensor:
        """A shear of coordinates around the middle of the pixel grid."""
        x, y = draw.uniform(*as_pair(self.x_factor)), draw.uniform(*as_pair(self.y_factor))
        one = tf.ones_like(x)
        return _around_centre(one, x, y, one, height, width)


def _around_centre(xx: tf.Tensor, xy: tf.Tensor, yx: tf.Tensor, yy: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Transforms of the matrix [[xx, xy], [yx, yy]] that leave the middle of the pixel grid where it is."""
    x, y = (width - 1) / 2, (height - 1) / 2
    zero = tf.zeros_like(xx)
    return tf.stack([xx, xy, x - xx * x - xy * y, yx, yy, y - yx * x - yy * y, zero, zero], 1)
