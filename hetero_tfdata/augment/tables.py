"""Colour that depends on a value alone: a table of 256 entries, which a chain fuses with its neighbours.

One look-up takes 90 us for 224x224x3. A factor means what it means to torchvision and PIL; see color.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import tensorflow as tf

from hetero_tfdata.augment.color_kernels import VALUES, rounded
from hetero_tfdata.augment.draws import Draw
from hetero_tfdata.augment.factors import factors, require_factor
from hetero_tfdata.augment.op import TableOp

__all__ = [
    "Brightness",
    "Gamma",
    "Invert",
    "Posterize",
    "RandomBrightness",
    "RandomGamma",
    "RandomInvert",
    "Solarize",
]


@dataclass(frozen=True, repr=False)
class Invert(TableOp):
    """255 minus each value.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. Equals PIL.ImageOps.invert.
    """

    def table(self, draw: Draw) -> tf.Tensor:
        """255 to 0."""
        return _fixed(255 - VALUES)


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
        return tf.where(draw.happens(self.probability)[:, tf.newaxis], _fixed(255 - VALUES), _fixed(VALUES))


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
        return _fixed(np.where(self.threshold > VALUES, VALUES, 255 - VALUES))


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
        return _fixed(VALUES & (256 - (1 << (8 - self.bits))))


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
        require_factor(self, "factor", self.factor)

    def table(self, draw: Draw) -> tf.Tensor:
        """A straight line."""
        return rounded(factors(self.factor, self.is_random, draw)[:, tf.newaxis] * _fixed(VALUES, tf.float32))


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
        require_factor(self, "gamma", self.gamma, above_zero=True)

    def table(self, draw: Draw) -> tf.Tensor:
        """A power."""
        gamma = factors(self.gamma, self.is_random, draw)[:, tf.newaxis]
        return rounded(255.0 * tf.pow(_fixed(VALUES / 255.0, tf.float32), gamma))


@dataclass(frozen=True, repr=False)
class RandomGamma(Gamma):
    """`Gamma` with another power for each sample.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype.

    Attributes:
        gamma: 0.2 draws from 0.8 to 1.2; a pair gives both ends.
    """

    gamma: float | tuple[float, float]  # type: ignore[assignment]

    is_random: ClassVar[bool] = True


def _fixed(values: np.ndarray, dtype: tf.DType = tf.uint8) -> tf.Tensor:
    return tf.constant(values[np.newaxis], dtype)
