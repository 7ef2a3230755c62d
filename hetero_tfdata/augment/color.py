"""Colour: what becomes of a pixel's values.

Operations without `Random` do the same to every sample; those with it draw one factor for each. A factor means what it means to
torchvision and PIL: 1 changes nothing, 0 is the extreme (black, grey, blurred), 2 doubles the difference from it. Everything is
rounded to the nearest grey level, where PIL and torchvision drop the fraction.

What depends on a value alone is a table, which a chain fuses with its neighbours: 90 us for 224x224x3. The rest runs compiled
over whole rows (see `to_rows`). Figures beside the kernels: us an image of 224x224x3, one core, TF 2.15.1, 2026-11-23.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from hetero_tfdata.augment.draws import Draw
from hetero_tfdata.augment.op import Batch, Op, TableOp, compiled, from_rows, to_rows

__all__ = [
    "AutoContrast",
    "Brightness",
    "ColorJitter",
    "Contrast",
    "Equalize",
    "Gamma",
    "Grayscale",
    "Hue",
    "Invert",
    "Posterize",
    "RandomBrightness",
    "RandomContrast",
    "RandomGamma",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomSaturation",
    "RandomSharpness",
    "Saturation",
    "Sharpness",
    "Solarize",
]

# ITU-R BT.601 in 65,536ths, as PIL's convert("L"): exact in float32. tf.image.rgb_to_grayscale differs by less than 0.01.
_GREY = (19595 / 65536, 38470 / 65536, 7471 / 65536)

Factor = Any  # a number, or a pair of them in order


# --- tables ---


@dataclass(frozen=True, repr=False)
class Invert(TableOp):
    """255 minus each value.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. Equals PIL.ImageOps.invert.
    """

    def table(self, draw: Draw) -> tf.Tensor:
        """255 to 0."""
        return _fixed(255 - _VALUES)


@dataclass(frozen=True, repr=False)
class RandomInvert(TableOp):
    """255 minus each value, with a probability for each sample.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype.

    Attributes:
        probability: of an inversion.
    """

    probability: float = 0.5

    is_random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.require_probability("probability", self.probability)

    def table(self, draw: Draw) -> tf.Tensor:
        """Forwards or backwards."""
        return tf.where(draw.happens(self.probability)[:, tf.newaxis], _fixed(255 - _VALUES), _fixed(_VALUES))


@dataclass(frozen=True, repr=False)
class Solarize(TableOp):
    """Inverts the values from a threshold upwards.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. Equals PIL.ImageOps.solarize.

    Attributes:
        threshold: the least value that is inverted: 0 inverts all, 256 none.
    """

    threshold: int = 128

    def __post_init__(self) -> None:
        self.require_range("threshold", self.threshold, 0, 256)

    def table(self, draw: Draw) -> tf.Tensor:
        """Up to the threshold and down again."""
        return _fixed(np.where(self.threshold > _VALUES, _VALUES, 255 - _VALUES))


@dataclass(frozen=True, repr=False)
class Posterize(TableOp):
    """Keeps the upper bits of each value.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. Equals PIL.ImageOps.posterize.

    Attributes:
        bits: how many are kept, 1 to 8.
    """

    bits: int

    def __post_init__(self) -> None:
        whole = isinstance(self.bits, int) and 1 <= self.bits <= 8
        self.require(whole, "bits", "a whole number from 1 to 8", repr(self.bits))

    def table(self, draw: Draw) -> tf.Tensor:
        """Steps."""
        return _fixed(_VALUES & (256 - (1 << (8 - self.bits))))


@dataclass(frozen=True, repr=False)
class Brightness(TableOp):
    """Multiplies each value.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. Equals torchvision's adjust_brightness and PIL's
    ImageEnhance.Brightness up to rounding. (tf.image.adjust_brightness adds instead.)

    Attributes:
        factor: 0 is black, 1 changes nothing.
    """

    factor: float

    def __post_init__(self) -> None:
        _require_factor(self, "factor", self.factor)

    def table(self, draw: Draw) -> tf.Tensor:
        """A straight line."""
        return _rounded(_factors(self.factor, self.is_random, draw)[:, tf.newaxis] * _fixed(_VALUES, tf.float32))


@dataclass(frozen=True, repr=False)
class RandomBrightness(Brightness):
    """`Brightness` with another factor for each sample.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype.

    Attributes:
        factor: 0.2 draws from 0.8 to 1.2 (as torchvision's ColorJitter; never below 0); a pair gives both ends.
    """

    factor: float | tuple[float, float]  # type: ignore[assignment]

    is_random: ClassVar[bool] = True


@dataclass(frozen=True, repr=False)
class Gamma(TableOp):
    """Raises each value to a power, on a scale from 0 to 1.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. Equals tf.image.adjust_gamma up to rounding.

    Attributes:
        gamma: the power: below 1 lightens the shadows, above 1 darkens them.
    """

    gamma: float

    def __post_init__(self) -> None:
        _require_factor(self, "gamma", self.gamma, above_zero=True)

    def table(self, draw: Draw) -> tf.Tensor:
        """A power."""
        gamma = _factors(self.gamma, self.is_random, draw)[:, tf.newaxis]
        return _rounded(255.0 * tf.pow(_fixed(_VALUES / 255.0, tf.float32), gamma))


@dataclass(frozen=True, repr=False)
class RandomGamma(Gamma):
    """`Gamma` with another power for each sample.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype.

    Attributes:
        gamma: 0.2 draws from 0.8 to 1.2; a pair gives both ends.
    """

    gamma: float | tuple[float, float]  # type: ignore[assignment]

    is_random: ClassVar[bool] = True


# --- what depends on the other pixels, or on the other channels ---


@dataclass(frozen=True, repr=False)
class Contrast(Op):
    """Scales the distance from the image's mean grey.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. Equals torchvision's adjust_contrast and PIL's ImageEnhance.Contrast
    up to rounding. (tf.image.adjust_contrast takes the mean of each channel instead.)

    Attributes:
        factor: 0 is plain grey, 1 changes nothing.
    """

    factor: float

    def __post_init__(self) -> None:
        _require_factor(self, "factor", self.factor)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """One pass for the mean, one for the values."""
        return _on_rows(batch, contrast_rows, _factors(self.factor, self.is_random, draw))


@dataclass(frozen=True, repr=False)
class RandomContrast(Contrast):
    """`Contrast` with another factor for each sample.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype.

    Attributes:
        factor: 0.2 draws from 0.8 to 1.2 (never below 0); a pair gives both ends.
    """

    factor: float | tuple[float, float]  # type: ignore[assignment]

    is_random: ClassVar[bool] = True


@dataclass(frozen=True, repr=False)
class Saturation(Op):
    """Scales the distance of each pixel from its own grey; leaves images of one channel alone.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. Equals torchvision's adjust_saturation and PIL's ImageEnhance.Color
    up to rounding. (tf.image.adjust_saturation scales the S of HSV instead.)

    Attributes:
        factor: 0 is grey, 1 changes nothing.
    """

    factor: float

    def __post_init__(self) -> None:
        _require_factor(self, "factor", self.factor)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Blends with the grey image."""
        if batch.images.shape[3] == 1:
            return batch
        return _on_rows(batch, saturation_rows, _factors(self.factor, self.is_random, draw))


@dataclass(frozen=True, repr=False)
class RandomSaturation(Saturation):
    """`Saturation` with another factor for each sample.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype.

    Attributes:
        factor: 0.2 draws from 0.8 to 1.2 (never below 0); a pair gives both ends.
    """

    factor: float | tuple[float, float]  # type: ignore[assignment]

    is_random: ClassVar[bool] = True


@dataclass(frozen=True, repr=False)
class Grayscale(Op):
    """Replaces each pixel by its grey (ITU-R BT.601), in all channels.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. Equals PIL's convert("L"), and tf.image.rgb_to_grayscale up to
    rounding.
    """

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """No saturation."""
        return Saturation(0.0).apply(batch, draw)


@dataclass(frozen=True, repr=False)
class RandomGrayscale(Op):
    """`Grayscale` with a probability for each sample.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype; the others stay as they are.

    Attributes:
        probability: of grey.
    """

    probability: float = 0.1

    is_random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.require_probability("probability", self.probability)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Saturation 0 or 1."""
        if batch.images.shape[3] == 1:
            return batch
        return _on_rows(batch, saturation_rows, tf.where(draw.happens(self.probability), 0.0, 1.0))


@dataclass(frozen=True, repr=False)
class Hue(Op):
    """Turns the hue of each pixel; leaves images of one channel alone.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. Equals tf.image.adjust_hue and torchvision's adjust_hue up to
    rounding.

    Attributes:
        delta: of a full turn through the colours, -0.5 to 0.5.
    """

    delta: float

    def __post_init__(self) -> None:
        _require_delta(self, "delta", self.delta)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Through HSV and back."""
        if batch.images.shape[3] == 1:
            return batch
        return _one_by_one(batch, hue_rows, _deltas(self.delta, self.is_random, draw))


@dataclass(frozen=True, repr=False)
class RandomHue(Hue):
    """`Hue` with another turn for each sample.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype.

    Attributes:
        delta: 0.1 draws from -0.1 to 0.1; a pair gives both ends.
    """

    delta: float | tuple[float, float]  # type: ignore[assignment]

    is_random: ClassVar[bool] = True


@dataclass(frozen=True, repr=False)
class Equalize(Op):
    """Spreads the values of each channel so that all are about equally frequent.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. Equals PIL.ImageOps.equalize and tfa.image.equalize.
    """

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """A histogram and a table for each channel."""
        return _one_by_one(batch, equalize_rows)


@dataclass(frozen=True, repr=False)
class AutoContrast(Op):
    """Stretches each channel so that its least value becomes 0 and its greatest 255; a channel of one value stays.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. Equals PIL.ImageOps.autocontrast up to rounding.
    """

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """One pass for the extremes, one for the values."""
        return _on_rows(batch, auto_contrast_rows)


@dataclass(frozen=True, repr=False)
class Sharpness(Op):
    """Scales the distance from the image smoothed by [[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13; the outermost pixels stay.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. Equals PIL's ImageEnhance.Sharpness and tfa.image.sharpness up to
    rounding.

    Attributes:
        factor: 0 is smooth, 1 changes nothing, 2 sharpens.
    """

    factor: float

    def __post_init__(self) -> None:
        _require_factor(self, "factor", self.factor)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Blends with the smoothed image."""
        return _on_rows(batch, sharpness_rows, _factors(self.factor, self.is_random, draw))


@dataclass(frozen=True, repr=False)
class RandomSharpness(Sharpness):
    """`Sharpness` with another factor for each sample.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype.

    Attributes:
        factor: 0.5 draws from 0.5 to 1.5 (never below 0); a pair gives both ends.
    """

    factor: float | tuple[float, float]  # type: ignore[assignment]

    is_random: ClassVar[bool] = True


@dataclass(frozen=True, repr=False)
class ColorJitter(Op):
    """Brightness, contrast, saturation and hue in one go, in this order, each drawn for each sample.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. Equals one operation after the other; torchvision's ColorJitter
    does the same in an order that it draws.

    Attributes:
        brightness: 0.4 draws a factor from 0.6 to 1.4 (never below 0); a pair gives both ends; 0 leaves it out.
        contrast: likewise.
        saturation: likewise; does nothing to images of one channel.
        hue: 0.1 draws a turn from -0.1 to 0.1; likewise.
    """

    brightness: float | tuple[float, float] = 0.0
    contrast: float | tuple[float, float] = 0.0
    saturation: float | tuple[float, float] = 0.0
    hue: float | tuple[float, float] = 0.0

    is_random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            _require_factor(self, name, getattr(self, name))
        _require_delta(self, "hue", self.hue)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """One pass over the pixels for each but brightness; what is left out costs nothing."""
        factors = [_factors(value, True, draw) for value in (self.brightness, self.contrast, self.saturation)]
        delta = _deltas(self.hue, True, draw)
        if self.brightness != 0.0 or self.contrast != 0.0:
            batch = _on_rows(batch, _brightness_and_contrast_rows, factors[0], factors[1])
        if self.saturation != 0.0 and batch.images.shape[3] == 3:
            batch = _on_rows(batch, saturation_rows, factors[2])
        if self.hue != 0.0 and batch.images.shape[3] == 3:
            batch = _one_by_one(batch, hue_rows, delta)
        return batch


# --- kernels: uint8 rows [B, H, W * C] and a factor [B] or [1] -> uint8 rows ---


@compiled
def contrast_rows(rows: tf.Tensor, channels: int, factor: tf.Tensor) -> tf.Tensor:
    """See `Contrast`. 130 us; tf.image.adjust_contrast 250."""
    return tf.cast(_contrast(tf.cast(rows, tf.float32), channels, _each(factor)), tf.uint8)


@compiled
def saturation_rows(rows: tf.Tensor, channels: int, factor: tf.Tensor) -> tf.Tensor:
    """See `Saturation`. 120 us; 320 with the grey taken along the axis of channels; tf.image.adjust_saturation 430."""
    return tf.cast(_saturation(tf.cast(rows, tf.float32), channels, _each(factor)), tf.uint8)


@compiled
def hue_rows(rows: tf.Tensor, channels: int, delta: tf.Tensor) -> tf.Tensor:
    """See `Hue`. 420 us; tf.image.adjust_hue 330, but with one turn for all samples."""
    return tf.cast(_hue(tf.cast(rows, tf.float32), channels, _each(delta)), tf.uint8)


@compiled
def sharpness_rows(rows: tf.Tensor, channels: int, factor: tf.Tensor) -> tf.Tensor:
    """See `Sharpness`. 100 us."""
    height, length = rows.shape[1:]
    padded = tf.cast(tf.pad(rows, [[0, 0], [1, 1], [channels, channels]]), tf.int32)
    values = tf.cast(rows, tf.int32)
    sums = padded[:, :height] + padded[:, 1 : height + 1] + padded[:, 2:]
    sums = sums[..., :length] + sums[..., channels : channels + length] + sums[..., 2 * channels :] + 4 * values
    row, column = tf.range(height)[:, tf.newaxis], tf.range(length)[tf.newaxis, :]
    inside = (row > 0) & (row < height - 1) & (column >= channels) & (column < length - channels)
    smooth = tf.where(inside, (2 * sums + 13) // 26, values)
    return _rounded(_blend(tf.cast(smooth, tf.float32), tf.cast(values, tf.float32), _each(factor)))


@compiled
def auto_contrast_rows(rows: tf.Tensor, channels: int) -> tf.Tensor:
    """See `AutoContrast`. 170 us; 250 and more with reduce_min and reduce_max, which XLA leaves scalar."""
    low = high = tf.cast(rows, tf.int32)
    count = rows.shape[1]
    while count > 1:  # the lower half against the upper one; an odd row in the middle meets itself
        half = (count + 1) // 2
        low = tf.minimum(low[:, :half], low[:, count - half : count])
        high = tf.maximum(high[:, :half], high[:, count - half : count])
        count = half
    low = tf.reduce_min(tf.reshape(low, [-1, low.shape[2] // channels, channels]), 1)
    high = tf.reduce_max(tf.reshape(high, [-1, high.shape[2] // channels, channels]), 1)
    flat = high == low
    scale = tf.where(flat, 1.0, 255.0 / tf.cast(tf.where(flat, 1, high - low), tf.float32))
    low = tf.where(flat, 0, low)
    scale, low = (tf.tile(value, [1, rows.shape[2] // channels])[:, tf.newaxis] for value in (scale, low))
    return _rounded(tf.cast(tf.cast(rows, tf.int32) - low, tf.float32) * scale)


def equalize_rows(rows: tf.Tensor, channels: int) -> tf.Tensor:
    """See `Equalize`. 365 us; 760 for tf.raw_ops.DenseBincount alone, 6,700 with one-hot codes and a product of matrices.

    Two compiled functions: in one, XLA computes the table anew for each value that it looks up.
    """
    return _look_up_each(rows, _equalizing_tables(rows, channels), channels)


@compiled
def _equalizing_tables(rows: tf.Tensor, channels: int) -> tf.Tensor:
    """int32 [B * C * 256]."""
    pixels = rows.shape[1] * rows.shape[2] // channels
    tables = tf.shape(rows)[0] * channels
    places = tf.reshape(_places(rows, channels), [-1, 1])
    counts = tf.tensor_scatter_nd_add(tf.zeros([tables * 256], tf.int32), places, tf.ones([tf.size(rows)], tf.int32))
    counts = tf.reshape(counts, [tables, 256])
    up_to = tf.cumsum(counts, axis=1)
    # PIL: the count of the greatest value is left out, the rest divided into 255 steps
    greatest = tf.reduce_sum(tf.where((up_to == pixels) & (counts > 0), counts, 0), 1, keepdims=True)
    step = (pixels - greatest) // 255
    spread = tf.minimum((up_to - counts + step // 2) // tf.maximum(step, 1), 255)
    return tf.reshape(tf.where(step == 0, tf.constant(_VALUES[np.newaxis], tf.int32), spread), [-1])


@compiled
def _look_up_each(rows: tf.Tensor, tables: tf.Tensor, channels: int) -> tf.Tensor:
    return tf.cast(tf.gather(tables, _places(rows, channels)), tf.uint8)


def _places(rows: tf.Tensor, channels: int) -> tf.Tensor:
    """Of each value in a row of tables, one for each sample and channel: int32 [B, H, W * C]."""
    channel = tf.constant(np.tile(256 * np.arange(channels), rows.shape[2] // channels), tf.int32)
    return tf.cast(rows, tf.int32) + (256 * channels * tf.reshape(tf.range(tf.shape(rows)[0]), [-1, 1, 1]) + channel)


@compiled
def _brightness_and_contrast_rows(rows: tf.Tensor, channels: int, brightness: tf.Tensor, contrast: tf.Tensor) -> tf.Tensor:
    return tf.cast(_contrast(_levels(tf.cast(rows, tf.float32) * _each(brightness)), channels, _each(contrast)), tf.uint8)


def _contrast(values: tf.Tensor, channels: int, factor: tf.Tensor) -> tf.Tensor:
    height, length = values.shape[1:]
    sums = tf.reduce_sum(values, 1)  # at most 255 * H: exact
    weights = np.tile(_GREY if channels == 3 else [1.0], length // channels)
    mean = tf.reduce_sum(sums * tf.constant(weights / (height * length // channels), tf.float32), 1)
    return _levels(_blend(tf.reshape(mean, [-1, 1, 1]), values, factor))


def _saturation(values: tf.Tensor, channels: int, factor: tf.Tensor) -> tf.Tensor:
    red, green, blue = _pixels(values, channels)
    grey = _levels(_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue)
    return _levels(_blend(grey, values, factor))


def _hue(values: tf.Tensor, channels: int, delta: tf.Tensor) -> tf.Tensor:
    red, green, blue = _pixels(values, channels)
    greatest = tf.maximum(red, tf.maximum(green, blue))
    chroma = greatest - tf.minimum(red, tf.minimum(green, blue))
    inverse = 1.0 / tf.maximum(chroma, 1.0)
    # the hue, counted in sixths of a turn
    sixths = tf.where(
        greatest == red,
        (green - blue) * inverse,
        tf.where(greatest == green, (blue - red) * inverse + 2.0, (red - green) * inverse + 4.0),
    )
    # each channel is HSV's same trapezoid, read 5, 3 and 1 sixths further on
    phase = tf.constant(np.tile([5.0, 3.0, 1.0], values.shape[2] // channels), tf.float32)
    place = sixths + 6.0 * delta + phase
    place -= 6.0 * tf.floor(place * (1.0 / 6.0))
    return _levels(greatest - chroma * tf.clip_by_value(tf.minimum(place, 4.0 - place), 0.0, 1.0))


def _pixels(values: tf.Tensor, channels: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Red, green and blue of the pixel that each value of a row belongs to: [B, H, W * C] each."""
    length = values.shape[2]
    padded = tf.pad(values, [[0, 0], [0, 0], [2, 2]])
    channel = np.tile(np.arange(channels), length // channels)
    shifted = {offset: padded[..., 2 + offset : 2 + offset + length] for offset in range(-2, 3)}
    red, green, blue = (
        tf.where(channel == 0, shifted[wanted], tf.where(channel == 1, shifted[wanted - 1], shifted[wanted - 2]))
        for wanted in range(3)
    )
    return red, green, blue


def _blend(first: tf.Tensor, second: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return first + (second - first) * factor


def _levels(values: tf.Tensor) -> tf.Tensor:
    """Rounded to grey levels, still float32."""
    return tf.floor(tf.clip_by_value(values + 0.5, 0.0, 255.0))


def _rounded(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(values + 0.5, 0.0, 255.0), tf.uint8)


def _each(factor: tf.Tensor) -> tf.Tensor:
    return tf.reshape(factor, [-1, 1, 1])


def _on_rows(batch: Batch, kernel: Callable[..., tf.Tensor], *arguments: Any) -> Batch:
    rows = kernel(to_rows(batch.images), int(batch.images.shape[3]), *arguments)
    return batch.replace(images=from_rows(rows, batch.images))


def _one_by_one(batch: Batch, kernel: Callable[..., tf.Tensor], *factors: tf.Tensor) -> Batch:
    """The same, one image after the other, so that what lies between two passes stays in the processor's cache.

    365 instead of 740 us for Equalize, 420 instead of 850 for Hue. Each call costs some 40, so small images go as a batch.
    """
    channels = int(batch.images.shape[3])
    if batch.height * batch.width * channels < _LARGE:
        return _on_rows(batch, kernel, *factors)
    rows = to_rows(batch.images)
    samples = tf.shape(rows)[0]
    spread = [tf.broadcast_to(factor, [samples]) for factor in factors]
    done = tf.map_fn(
        lambda one: kernel(one[0][tf.newaxis], channels, *(factor[tf.newaxis] for factor in one[1:]))[0],
        (rows, *spread),
        fn_output_signature=tf.TensorSpec(rows.shape[1:], tf.uint8),
    )
    return batch.replace(images=from_rows(done, batch.images))


# --- factors ---

# values an image: below, 40 us a call are more than a cold cache costs (estimated from the figures at 224x224x3)
_LARGE = 64 * 64 * 3

_VALUES = np.arange(256)


def _fixed(values: np.ndarray, dtype: tf.DType = tf.uint8) -> tf.Tensor:
    return tf.constant(values[np.newaxis], dtype)


def _ends(value: Factor) -> tuple[float, float]:
    """0.2 -> (0.8, 1.2), never below 0; a pair stays."""
    if isinstance(value, (int, float)):
        return max(0.0, 1.0 - value), 1.0 + value
    low, high = value
    return float(low), float(high)


def _factors(value: Factor, is_random: bool, draw: Draw) -> tf.Tensor:
    """float32 [B], or [1] where nothing is drawn."""
    return draw.uniform(*_ends(value)) if is_random else tf.constant([value], tf.float32)


def _deltas(value: Factor, is_random: bool, draw: Draw) -> tf.Tensor:
    low, high = (-value, value) if isinstance(value, (int, float)) else value
    return draw.uniform(float(low), float(high)) if is_random else tf.constant([value], tf.float32)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value)) and value[0] <= value[1]


def _require_factor(op: Op, argument: str, value: Factor, above_zero: bool = False) -> None:
    least = "above 0" if above_zero else "of at least 0"
    if not op.is_random:
        correct = _is_number(value) and (value > 0 if above_zero else value >= 0)
        op.require(correct, argument, f"a number {least}", repr(value))
        return
    low = value if _is_number(value) else value[0] if _is_pair(value) else -1.0
    if above_zero and _is_number(value):
        low = _ends(value)[0] if value >= 0 else -1.0
    correct = low > 0 if above_zero else low >= 0
    op.require(
        correct,
        argument,
        f"a number of at least 0{' and below 1' if above_zero else ''}, or a pair {least} in order",
        repr(value),
    )


def _require_delta(op: Op, argument: str, value: Factor) -> None:
    if not op.is_random:
        op.require_range(argument, value, -0.5, 0.5)
        return
    low, high = (-value, value) if _is_number(value) else value if _is_pair(value) else (1.0, -1.0)
    correct = -0.5 <= low <= high <= 0.5
    op.require(correct, argument, "a part of a turn from 0 to 0.5, or a pair from -0.5 to 0.5 in order", repr(value))
