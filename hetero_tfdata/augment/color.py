"""Colour: what becomes of a pixel's values.

Operations without `Random` do the same to every sample; those with it draw one factor for each. A factor means what it means to
torchvision and PIL: 1 changes nothing, 0 is the extreme (black, grey, blurred), 2 doubles the difference from it. Everything is
rounded to the nearest grey level, where PIL and torchvision drop the fraction.

What depends on a value alone is a table (tables.py); here is what depends on the other pixels, or on the other channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from hetero_tfdata.augment.bands import in_bands, on_rows, one_by_one
from hetero_tfdata.augment.color_kernels import (
    auto_contrast_rows,
    brightness_and_contrast_rows,
    contrast_rows,
    equalize_rows,
    hue_rows,
    saturation_and_hue_rows,
    saturation_rows,
    sharpness_rows,
)
from hetero_tfdata.augment.draws import Draw
from hetero_tfdata.augment.factors import deltas, factors, require_delta, require_factor
from hetero_tfdata.augment.op import Batch, Op

__all__ = [
    "AutoContrast",
    "ColorJitter",
    "Contrast",
    "Equalize",
    "Grayscale",
    "Hue",
    "RandomContrast",
    "RandomGrayscale",
    "RandomHue",
    "RandomSaturation",
    "RandomSharpness",
    "Saturation",
    "Sharpness",
]


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
        require_factor(self, "factor", self.factor)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """One pass for the mean, one for the values."""
        return on_rows(batch, contrast_rows, factors(self.factor, self.is_random, draw))


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
        require_factor(self, "factor", self.factor)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Blends with the grey image."""
        if batch.images.shape[3] == 1:
            return batch
        return on_rows(batch, saturation_rows, factors(self.factor, self.is_random, draw))


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
        return on_rows(batch, saturation_rows, tf.where(draw.happens(self.probability), 0.0, 1.0))


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
        require_delta(self, "delta", self.delta)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Through HSV and back."""
        if batch.images.shape[3] == 1:
            return batch
        return in_bands(batch, hue_rows, deltas(self.delta, self.is_random, draw))


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
        return one_by_one(batch, equalize_rows)


@dataclass(frozen=True, repr=False)
class AutoContrast(Op):
    """Stretches each channel so that its least value becomes 0 and its greatest 255; a channel of one value stays.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. Equals PIL.ImageOps.autocontrast up to rounding.
    """

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """One pass for the extremes, one for the values."""
        return on_rows(batch, auto_contrast_rows)


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
        require_factor(self, "factor", self.factor)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Blends with the smoothed image."""
        return on_rows(batch, sharpness_rows, factors(self.factor, self.is_random, draw))


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
            require_factor(self, name, getattr(self, name))
        require_delta(self, "hue", self.hue)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """A pass over the pixels for brightness and contrast, one for saturation and hue; what is left out costs nothing."""
        drawn = [factors(value, True, draw) for value in (self.brightness, self.contrast, self.saturation)]
        delta = deltas(self.hue, True, draw)
        if self.brightness != 0.0 or self.contrast != 0.0:
            batch = on_rows(batch, brightness_and_contrast_rows, drawn[0], drawn[1])
        if batch.images.shape[3] != 3:
            return batch
        if self.saturation != 0.0 and self.hue != 0.0:
            return in_bands(batch, saturation_and_hue_rows, drawn[2], delta)
        if self.saturation != 0.0:
            return on_rows(batch, saturation_rows, drawn[2])
        return in_bands(batch, hue_rows, delta) if self.hue != 0.0 else batch
