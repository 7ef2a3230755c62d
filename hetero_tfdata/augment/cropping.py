"""Which part of an image remains, at what size: crops, padding, resizing, erasing. Boxes and masks follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from hetero_tfdata.augment.boxes import move_boxes
from hetero_tfdata.augment.draws import Draw
from hetero_tfdata.augment.op import Batch, Op, compiled
from hetero_tfdata.augment.sampling import resample
from hetero_tfdata.errors import DatasetError

__all__ = ["CenterCrop", "Pad", "RandomErasing", "RandomResizedCrop", "Resize"]


@dataclass(frozen=True, repr=False)
class CenterCrop(Op):
    """Cuts out the middle.

    uint8 [B, H, W, C] in [0, 255] -> uint8 [B, height, width, C], exact. An odd remainder leaves one pixel more below and to
    the right, as tf.keras.layers.CenterCrop does.

    Attributes:
        height: pixels, at most the images'.
        width: pixels, at most the images'.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        _require_size(self, self.height, self.width)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The crop's."""
        return self.height, self.width

    def check(self, images: tf.Tensor) -> None:
        """The crop must fit."""
        super().check(images)
        fits = self.height <= images.shape[1] and self.width <= images.shape[2]
        got = f"{self.height}x{self.width}"
        self.require(fits, "height, width", f"at most the images' {images.shape[1]}x{images.shape[2]}", got, error=DatasetError)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Slices."""
        top, left = (batch.height - self.height) // 2, (batch.width - self.width) // 2
        rows, columns = slice(top, top + self.height), slice(left, left + self.width)
        shift = _constant_transform(batch, 1.0, left, 1.0, top)
        return batch.replace(
            images=batch.images[:, rows, columns],
            masks=None if batch.masks is None else batch.masks[:, rows, columns],
            boxes=None if batch.boxes is None else move_boxes(batch.boxes, shift, self.height, self.width),
        )


@dataclass(frozen=True, repr=False)
class Pad(Op):
    """Puts a border around the images.

    uint8 [B, H, W, C] in [0, 255] -> uint8 [B, H + 2 pixels, W + 2 pixels, C], exact.

    Attributes:
        pixels: width of the border.
        mode: "constant" (value), "reflect" (d c b | a b c d | c b a) or "symmetric" (c b a | a b c d | d c b).
        value: 0 to 255.
    """

    pixels: int
    mode: str = "constant"
    value: int = 0

    _MODES: ClassVar[tuple[str, ...]] = ("constant", "reflect", "symmetric")

    def __post_init__(self) -> None:
        self.require(isinstance(self.pixels, int) and self.pixels >= 0, "pixels", "a whole number from 0", repr(self.pixels))
        self.require(self.mode in self._MODES, "mode", f"one of {', '.join(self._MODES)}", repr(self.mode))
        self.require_range("value", self.value, 0, 255)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The border is added on both sides."""
        return height + 2 * self.pixels, width + 2 * self.pixels

    def check(self, images: tf.Tensor) -> None:
        """A reflected border can't be wider than the image."""
        super().check(images)
        most = min(images.shape[1], images.shape[2]) - (self.mode == "reflect")
        if self.mode != "constant":
            self.require(self.pixels <= most, "pixels", f"at most {most} for these images", self.pixels, error=DatasetError)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """tf.pad, compiled: 16 ns a value without."""
        mode = self.mode.upper()
        images = _pad(batch.images, self.pixels, mode, self.value)
        masks = None if batch.masks is None else _pad(batch.masks, self.pixels, mode, 0)
        boxes = None if batch.boxes is None else batch.boxes + float(self.pixels)
        return batch.replace(images=images, masks=masks, boxes=boxes)


@dataclass(frozen=True, repr=False)
class Resize(Op):
    """Bilinear, without antialiasing: tf.image.resize's default, in uint8.

    uint8 [B, H, W, C] in [0, 255] -> uint8 [B, height, width, C], rounded to the nearest. Masks take the nearest pixel.

    Attributes:
        height: pixels.
        width: pixels.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        _require_size(self, self.height, self.width)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """As asked."""
        return self.height, self.width

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """One sampling at scaled coordinates."""
        down, right = batch.height / self.height, batch.width / self.width
        transforms = _constant_transform(batch, right, right / 2 - 0.5, down, down / 2 - 0.5)
        return _sampled(batch, transforms, self.height, self.width)


@dataclass(frozen=True, repr=False)
class RandomResizedCrop(Op):
    """A random part of each image, resized: the crop of "Going deeper with convolutions" (2014), as torchvision draws it.

    uint8 [B, H, W, C] in [0, 255] -> uint8 [B, height, width, C]. On JPEGs, use the preset: it decodes only the crop.

    Attributes:
        height: pixels of the result.
        width: pixels of the result.
        area: smallest and largest part of the image.
        aspect: smallest and largest width / height of the part, drawn evenly in the logarithm.
    """

    height: int
    width: int
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)

    is_random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require_size(self, self.height, self.width)
        self.require(0 < self.area[0] <= self.area[1] <= 1, "area", "two parts from 0 to 1 in order", repr(self.area))
        self.require(0 < self.aspect[0] <= self.aspect[1], "aspect", "two ratios above 0 in order", repr(self.aspect))

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """As asked."""
        return self.height, self.width

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """One sampling of the part."""
        height, width = float(batch.height), float(batch.width)
        area = draw.uniform(*self.area) * height * width
        aspect = tf.exp(draw.uniform(math.log(self.aspect[0]), math.log(self.aspect[1])))
        part_width = tf.clip_by_value(tf.sqrt(area * aspect), 1.0, width)
        part_height = tf.clip_by_value(tf.sqrt(area / aspect), 1.0, height)
        left = draw.uniform() * (width - part_width)
        top = draw.uniform() * (height - part_height)
        right, down = part_width / self.width, part_height / self.height
        zero = tf.zeros_like(right)
        transforms = tf.stack([right, zero, left + right / 2 - 0.5, zero, down, top + down / 2 - 0.5, zero, zero], 1)
        return _sampled(batch, transforms, self.height, self.width)


@dataclass(frozen=True, repr=False)
class RandomErasing(Op):
    """Paints a random rectangle over each image: Cutout (2017) with a fixed square, Random Erasing (2017) else.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. The centre may lie anywhere in the image, so part of the
    rectangle may lie outside, as in tfa.image.random_cutout. Boxes and masks stay as they are.

    Attributes:
        area: of the image, smallest and largest.
        aspect: width / height of the rectangle, smallest and largest, drawn evenly in the logarithm; (1, 1): a square.
        probability: of erasing at all.
        value: the grey level painted, 0 to 255.
    """

    area: tuple[float, float] = (0.02, 0.33)
    aspect: tuple[float, float] = (0.3, 3.3)
    probability: float = 1.0
    value: int = 0

    is_random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.require(0 <= self.area[0] <= self.area[1] <= 1, "area", "two parts from 0 to 1 in order", repr(self.area))
        self.require(0 < self.aspect[0] <= self.aspect[1], "aspect", "two ratios above 0 in order", repr(self.aspect))
        self.require_probability("probability", self.probability)
        self.require_range("value", self.value, 0, 255)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Paints where both the row and the column lie in the rectangle."""
        height, width = float(batch.height), float(batch.width)
        area = draw.uniform(*self.area) * height * width
        aspect = tf.exp(draw.uniform(math.log(self.aspect[0]), math.log(self.aspect[1])))
        half_width, half_height = tf.sqrt(area * aspect) / 2, tf.sqrt(area / aspect) / 2
        x, y = draw.uniform() * width, draw.uniform() * height
        half_width = tf.where(draw.happens(self.probability), half_width, -1.0)
        limits = tf.round(tf.stack([y - half_height, y + half_height, x - half_width, x + half_width], 1))
        return batch.replace(images=_paint(batch.images, limits, self.value))


@compiled
def _pad(images: tf.Tensor, pixels: int, mode: str, value: int) -> tf.Tensor:
    return tf.pad(images, [[0, 0], [pixels, pixels], [pixels, pixels], [0, 0]], mode, value)


@compiled
def _paint(images: tf.Tensor, limits: tf.Tensor, value: int) -> tf.Tensor:
    top, bottom, left, right = (tf.reshape(limit, [-1, 1, 1, 1]) for limit in tf.unstack(limits, axis=1))
    rows = tf.reshape(tf.range(images.shape[1], dtype=tf.float32), [1, -1, 1, 1])
    columns = tf.reshape(tf.range(images.shape[2], dtype=tf.float32), [1, 1, -1, 1])
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return tf.where(inside, tf.constant(value, tf.uint8), images)


@compiled
def _resized(images: tf.Tensor, transforms: tf.Tensor, height: int, width: int, interpolation: str) -> tf.Tensor:
    return resample(images, transforms, size=(height, width), fill_mode="nearest", interpolation=interpolation)


def _sampled(batch: Batch, transforms: tf.Tensor, height: int, width: int) -> Batch:
    masks = None if batch.masks is None else _resized(batch.masks, transforms, height, width, "nearest")
    boxes = None if batch.boxes is None else move_boxes(batch.boxes, transforms, height, width)
    return batch.replace(images=_resized(batch.images, transforms, height, width, "bilinear"), masks=masks, boxes=boxes)


def _constant_transform(batch: Batch, right: float, left: float, down: float, top: float) -> tf.Tensor:
    """float32 [B, 8]: (x, y) comes from (right * x + left, down * y + top), for every sample."""
    row = tf.constant([[right, 0.0, left, 0.0, down, top, 0.0, 0.0]], tf.float32)
    return tf.repeat(row, tf.shape(batch.images)[0], 0)


def _require_size(op: Op, height: int, width: int) -> None:
    for name, value in (("height", height), ("width", width)):
        op.require(isinstance(value, int) and value > 0, name, "a whole number of pixels above 0", repr(value))
