"""Policies: each sample draws which transforms it gets.

How it is fast. Each sample pays for the transforms that it drew and for no other: the batch goes through image by image, and a
`tf.switch_case` picks a kernel that XLA compiled for one image, so a ragged last batch compiles nothing anew and an image stays
in the processor's cache from one transform to the next. Fourteen transforms need eight kernels: rotation, shears and shifts are
one sampling, what depends on a value alone is one table. All random numbers and tables are made for the whole batch at once.

Measured on 224x224x3, one core, TF 2.15.1, 2026-11-23, us an image: sampling at the nearest pixel 170 (a whole batch in one
compiled function 310-520; 375 where packing and reading are one compiled function), bilinear 340 (770), table 60, contrast 110,
sharpness 125, colour 140, autocontrast 150, equalization 370, and 65 for passing through. RandAugment() makes 2,570 images per
CPU-second where the same with tf.image and tfa.image functions makes 670; bilinear 1,970 and 470.

What lost: a loop over the images within one compiled function, where XLA copies them byte by byte (130-300 us an image). Not
tried, for they cannot win: computing all fourteen and selecting (the sum of the above), and a partition of the batch by kind,
of which each size would compile anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from hetero_tfdata.augment.boxes import move_boxes
from hetero_tfdata.augment.color_kernels import (
    auto_contrast_rows,
    contrast_rows,
    equalize_rows,
    saturation_rows,
    sharpness_rows,
)
from hetero_tfdata.augment.draws import Draw
from hetero_tfdata.augment.op import Batch, Op, compiled, from_rows, sample_masks, to_rows
from hetero_tfdata.augment.sampling import INTERPOLATIONS

__all__ = ["RandAugment", "TrivialAugment"]

# the kernels, by their place in the switch
_NOTHING, _SAMPLING, _TABLE, _CONTRAST, _SATURATION, _SHARPNESS, _AUTO_CONTRAST, _EQUALIZE = range(8)


class _Layer(NamedTuple):
    """One transform for each sample of a batch.

    Attributes:
        kernels: int32 [B], which kernel.
        transforms: float32 [B, 8] from output to input pixels; the identity where the kernel is no sampling.
        tables: int32 [B, 256].
        factors: float32 [B].
    """

    kernels: tf.Tensor
    transforms: tf.Tensor
    tables: tf.Tensor
    factors: tf.Tensor


@dataclass(frozen=True, repr=False)
class _Policy(Op):
    """What the policies share.

    Attributes:
        fill_value: grey level of what comes from outside the image.
        interpolation: of rotations, shears and shifts: "nearest" or "bilinear".
    """

    fill_value: int = 128
    interpolation: str = "nearest"

    is_random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.require_range("fill_value", self.fill_value, 0, 255)
        known = ", ".join(INTERPOLATIONS)
        self.require(self.interpolation in INTERPOLATIONS, "interpolation", f"one of {known}", repr(self.interpolation))

    def _layers(self, draw: Draw, height: int, width: int) -> list[_Layer]:
        raise NotImplementedError

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Images image by image; masks and boxes follow the samplings."""
        layers = self._layers(draw, batch.height, batch.width)
        images = from_rows(self._images(to_rows(batch.images), int(batch.images.shape[3]), layers), batch.images)
        boxes = batch.boxes
        if boxes is not None:
            for layer in layers:  # one after the other: what a transform moved out of the image is gone
                boxes = move_boxes(boxes, layer.transforms, batch.height, batch.width)
        masks = None if batch.masks is None else _move_masks(batch.masks, layers)
        return batch.replace(images=images, boxes=boxes, masks=masks)

    def _images(self, rows: tf.Tensor, channels: int, layers: Sequence[_Layer]) -> tf.Tensor:
        def one_image(sample: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
            image, kernels, number = sample[0][tf.newaxis], sample[1], sample[2]
            for place, layer in enumerate(layers):
                image = self._transformed(image, channels, kernels[place], layer, number)
            return image[0]

        signature = tf.TensorSpec(rows.shape[1:], tf.uint8)
        kernels = tf.stack([layer.kernels for layer in layers], 1)
        return tf.map_fn(one_image, (rows, kernels, tf.range(tf.shape(rows)[0])), fn_output_signature=signature)

    def _transformed(self, image: tf.Tensor, channels: int, kernel: tf.Tensor, layer: _Layer, number: tf.Tensor) -> tf.Tensor:
        # Each branch takes its own numbers out of the layer's: what an image does not need is not even copied (20 us an image).
        kernels = {
            _NOTHING: lambda: image,
            _SAMPLING: lambda: _sampled(image, channels, layer.transforms[number], self.fill_value, self.interpolation),
            _TABLE: lambda: _looked_up(image, layer.tables[number]),
            _CONTRAST: lambda: contrast_rows(image, channels, layer.factors[number]),
            _SATURATION: lambda: saturation_rows(image, channels, layer.factors[number]) if channels == 3 else image,
            _SHARPNESS: lambda: sharpness_rows(image, channels, layer.factors[number]),
            _AUTO_CONTRAST: lambda: auto_contrast_rows(image, channels),
            _EQUALIZE: lambda: equalize_rows(image, channels),
        }
        return tf.ensure_shape(tf.switch_case(kernel, kernels), image.shape)


@dataclass(frozen=True, repr=False)
class RandAugment(_Policy):
    """A number of transforms drawn for each sample, all of one magnitude (Cubuk et al., arXiv 1909.13719).

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype; boxes and masks follow.

    Fourteen transforms, each as likely, with the ranges of tf-models (official/vision/ops/augment.py); at magnitude 10:
    Rotate 30 degrees, ShearX and ShearY 0.3, TranslateX and TranslateY `translation` (these five to either side), Color,
    Contrast, Brightness and Sharpness factor 1.9, Posterize to 4 bits, Solarize from 256 upwards; AutoContrast, Equalize and
    Invert have no magnitude. As there, a smaller magnitude posterizes and solarizes more, not less, and a factor below 0.9/1.8
    of the scale darkens or blurs. Unlike there: contrast is about the mean grey as in PIL (there a histogram's mean, about
    H W / 256, stands in its place), at least one bit is kept, values are rounded to the nearest, and a shift is a part of the
    image, not 100 pixels.

    Attributes:
        operations: transforms a sample, one after the other; 2 as in the paper's ImageNet results.
        magnitude: 0 to 10; 9 as in the paper's ImageNet results for ResNet-50.
        translation: largest shift as a part of height or width; 0.45 is about tf-models' 100 of 224 pixels and
            the paper's 150 of 331.
        fill_value: grey level of what comes from outside the image; 128 as in tf-models.
        interpolation: "nearest", as tf-models and torchvision, or "bilinear", which costs 170 us more for 224x224x3.
    """

    operations: int = 2
    magnitude: float = 9.0
    translation: float = 0.45

    TRANSFORMS: ClassVar[tuple[str, ...]] = (
        "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "Color", "Contrast", "Brightness", "Sharpness",
        "ShearX", "ShearY", "TranslateX", "TranslateY",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.operations, int) and not isinstance(self.operations, bool) and self.operations >= 1
        self.require(whole, "operations", "a whole number of at least 1", repr(self.operations))
        self.require_range("magnitude", self.magnitude, 0, 10)
        self.require_range("translation", self.translation, 0, 1)

    def _layers(self, draw: Draw, height: int, width: int) -> list[_Layer]:
        level = self.magnitude / 10
        return [self._layer(draw, level, height, width) for _ in range(self.operations)]

    def _layer(self, draw: Draw, level: float, height: int, width: int) -> _Layer:
        sign = tf.where(draw.happens(0.5), 1.0, -1.0)
        return _layer(
            self.TRANSFORMS,
            draw.integers(len(self.TRANSFORMS)),
            turn=sign * (level * np.pi / 6),
            shear=sign * (level * 0.3),
            down=sign * (level * self.translation * height),
            right=sign * (level * self.translation * width),
            factor=tf.fill(tf.shape(sign), level * 1.8 + 0.1),
            bits=tf.fill(tf.shape(sign), max(1, int(level * 4))),
            threshold=tf.fill(tf.shape(sign), int(level * 256)),
            height=height,
            width=width,
        )


@dataclass(frozen=True, repr=False)
class TrivialAugment(_Policy):
    """One transform of one magnitude, both drawn for each sample (Müller and Hutter, arXiv 2103.10158; the "wide" space).

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype; boxes and masks follow.

    The transforms and ranges of torchvision's TrivialAugmentWide, in 31 steps from nothing to the whole: Identity, ShearX and
    ShearY 0.99, TranslateX and TranslateY 32 pixels, Rotate 135 degrees, Brightness, Color, Contrast and Sharpness 1 +- 0.99
    (all these to either side), Posterize 8 to 2 bits, Solarize from 255 down to 0, AutoContrast, Equalize.

    Attributes:
        fill_value: grey level of what comes from outside the image; 128 (torchvision: 0).
        interpolation: "nearest", as torchvision, or "bilinear".
    """

    TRANSFORMS: ClassVar[tuple[str, ...]] = (
        "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness",
        "Posterize", "Solarize", "AutoContrast", "Equalize",
    )  # fmt: skip
    _STEPS: ClassVar[int] = 31

    def _layers(self, draw: Draw, height: int, width: int) -> list[_Layer]:
        level = tf.cast(draw.integers(self._STEPS), tf.float32) / (self._STEPS - 1)
        sign = tf.where(draw.happens(0.5), 1.0, -1.0)
        layer = _layer(
            self.TRANSFORMS,
            draw.integers(len(self.TRANSFORMS)),
            turn=sign * level * (0.75 * np.pi),
            shear=sign * level * 0.99,
            down=sign * level * 32.0,
            right=sign * level * 32.0,
            factor=1.0 + sign * level * 0.99,
            bits=8 - tf.cast(tf.round(level * 6.0), tf.int32),
            threshold=tf.cast(tf.round(255.0 * (1.0 - level)), tf.int32),
            height=height,
            width=width,
        )
        return [layer]


def _layer(
    names: Sequence[str],
    choice: tf.Tensor,
    *,
    turn: tf.Tensor,
    shear: tf.Tensor,
    down: tf.Tensor,
    right: tf.Tensor,
    factor: tf.Tensor,
    bits: tf.Tensor,
    threshold: tf.Tensor,
    height: int,
    width: int,
) -> _Layer:
    """The transform number `choice` (int32 [B]) of `names` for each sample; the other arguments, [B], are its strength."""
    kernels = tf.gather([_KERNELS[name] for name in names], choice)

    def chosen(name: str) -> tf.Tensor:
        return choice == names.index(name) if name in names else tf.zeros_like(choice, tf.bool)

    one, zero = tf.ones_like(shear), tf.zeros_like(shear)
    cosine, sine = tf.cos(turn), tf.sin(turn)
    x, y = (width - 1) / 2, (height - 1) / 2
    transforms = tf.stack([one, zero, zero, zero, one, zero, zero, zero], 1)
    # shears are about the upper left corner, as in tf-models, PIL and torchvision
    for name, entries in (
        ("Rotate", [cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y, zero, zero]),
        ("ShearX", [one, shear, zero, zero, one, zero, zero, zero]),
        ("ShearY", [one, zero, zero, shear, one, zero, zero, zero]),
        ("TranslateX", [one, zero, -right, zero, one, zero, zero, zero]),
        ("TranslateY", [one, zero, zero, zero, one, -down, zero, zero]),
    ):
        transforms = tf.where(chosen(name)[:, tf.newaxis], tf.stack(entries, 1), transforms)
    values = tf.range(256)[tf.newaxis]
    steps = tf.bitwise.left_shift(tf.ones_like(bits), 8 - bits)[:, tf.newaxis]
    brightness = tf.cast(tf.clip_by_value(tf.cast(values, tf.float32) * factor[:, tf.newaxis] + 0.5, 0.0, 255.0), tf.int32)
    tables = tf.broadcast_to(255 - values, tf.shape(brightness))
    for name, table in (
        ("Posterize", values - values % steps),
        ("Solarize", tf.where(values < threshold[:, tf.newaxis], values, 255 - values)),
        ("Brightness", brightness),
    ):
        tables = tf.where(chosen(name)[:, tf.newaxis], table, tables)
    return _Layer(kernels, transforms, tables, factor)


_KERNELS = {
    "Identity": _NOTHING,
    "AutoContrast": _AUTO_CONTRAST,
    "Equalize": _EQUALIZE,
    "Invert": _TABLE,
    "Posterize": _TABLE,
    "Solarize": _TABLE,
    "Brightness": _TABLE,
    "Color": _SATURATION,
    "Contrast": _CONTRAST,
    "Sharpness": _SHARPNESS,
    "Rotate": _SAMPLING,
    "ShearX": _SAMPLING,
    "ShearY": _SAMPLING,
    "TranslateX": _SAMPLING,
    "TranslateY": _SAMPLING,
}


def _move_masks(masks: tf.Tensor, layers: Sequence[_Layer]) -> tf.Tensor:
    for layer in layers:
        masks = sample_masks(masks, layer.transforms, "constant")
    return masks


# --- kernels of one image: uint8 [1, H, W * C] -> same shape and dtype ---


@compiled
def _looked_up(image: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.gather(tf.reshape(table, [-1]), tf.cast(image, tf.int32)), tf.uint8)


def _sampled(image: tf.Tensor, channels: int, transforms: tf.Tensor, fill_value: int, interpolation: str) -> tf.Tensor:
    """Two compiled functions: a gather of 32-bit words becomes vector code only if the words already stand in memory."""
    words = _words(image)
    read = _nearest if interpolation == "nearest" else _bilinear
    return read(words, transforms, image.shape[1], image.shape[2], channels, fill_value)


@compiled
def _words(image: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tf.cast(image, tf.float32), [-1])


@compiled
def _nearest(words: tf.Tensor, transforms: tf.Tensor, height: int, length: int, channels: int, fill_value: int) -> tf.Tensor:
    x, y, channel = _coordinates(transforms, height, length, channels)
    value = _value_at(words, tf.floor(x + 0.5), tf.floor(y + 0.5), channel, height, length, channels, fill_value)
    return tf.cast(value, tf.uint8)[tf.newaxis]


@compiled
def _bilinear(words: tf.Tensor, transforms: tf.Tensor, height: int, length: int, channels: int, fill_value: int) -> tf.Tensor:
    x, y, channel = _coordinates(transforms, height, length, channels)
    left, above = tf.floor(x), tf.floor(y)
    first, second, third, fourth = (
        _value_at(words, left + right, above + below, channel, height, length, channels, fill_value)
        for below in (0.0, 1.0)
        for right in (0.0, 1.0)
    )
    top = first + (second - first) * (x - left)
    bottom = third + (fourth - third) * (x - left)
    return tf.cast(top + (bottom - top) * (y - above) + 0.5, tf.uint8)[tf.newaxis]


def _coordinates(transforms: tf.Tensor, height: int, length: int, channels: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Where each value of the result comes from: x and y [H, W * C], and its channel [1, W * C]."""
    columns = tf.constant(np.arange(length)[np.newaxis] // channels, tf.float32)
    channel = tf.constant(np.arange(length)[np.newaxis] % channels, tf.int32)
    rows = tf.range(height, dtype=tf.float32)[:, tf.newaxis]
    a0, a1, a2, b0, b1, b2, _, _ = tf.unstack(tf.reshape(transforms, [8]))
    return a0 * columns + a1 * rows + a2, b0 * columns + b1 * rows + b2, channel


def _value_at(
    words: tf.Tensor, x: tf.Tensor, y: tf.Tensor, channel: tf.Tensor, height: int, length: int, channels: int, fill_value: int
) -> tf.Tensor:
    width = length // channels
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column = tf.cast(tf.clip_by_value(x, 0.0, width - 1.0), tf.int32)
    row = tf.cast(tf.clip_by_value(y, 0.0, height - 1.0), tf.int32)
    return tf.where(inside, tf.gather(words, row * length + column * channels + channel), float(fill_value))
