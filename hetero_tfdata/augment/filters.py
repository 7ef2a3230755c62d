"""Filters: each pixel from its neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import tensorflow as tf

from hetero_tfdata.augment.bands import band_count, each_band
from hetero_tfdata.augment.draws import Draw
from hetero_tfdata.augment.op import Batch, Op, compiled, from_rows, to_rows
from hetero_tfdata.errors import DatasetError

__all__ = ["Dilation", "Erosion", "GaussianBlur", "MeanBlur"]

# A tap that can change a result by less than this many grey levels is left out: of GaussianBlur(11, sigma=0.8) 7 of 11 remain.
_NEGLIGIBLE = 0.002


@dataclass(frozen=True, repr=False)
class Dilation(Op):
    """The maximum over a square neighbourhood; outside the image counts as nothing.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype. Equals tf.nn.dilation2d with a filter of zeros and SAME padding.

    Attributes:
        size: side of the square in pixels, odd.
    """

    size: int = 3

    def __post_init__(self) -> None:
        _require_odd(self, self.size)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Columns first, then rows: a square's maximum is separable."""
        return batch.replace(images=_filter(batch.images, _extreme, self.size, "maximum"))


@dataclass(frozen=True, repr=False)
class Erosion(Op):
    """The minimum over a square neighbourhood; outside the image counts as nothing.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype.

    Attributes:
        size: side of the square in pixels, odd.
    """

    size: int = 3

    def __post_init__(self) -> None:
        _require_odd(self, self.size)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Columns first, then rows."""
        return batch.replace(images=_filter(batch.images, _extreme, self.size, "minimum"))


@dataclass(frozen=True, repr=False)
class GaussianBlur(Op):
    """A Gaussian filter; outside the image counts as `padding` says.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype, rounded to the nearest.

    Attributes:
        size: side of the filter in pixels, odd; its weights add up to 1.
        sigma: standard deviation in pixels; a pair draws one for each sample from that range, as torchvision does.
        padding: "reflect" (d c b | a b c d | c b a, tfa.image's and torchvision's default), "constant" (0) or "nearest".
    """

    size: int
    sigma: float | tuple[float, float] = 1.0
    padding: str = "reflect"

    _PADDINGS: ClassVar[tuple[str, ...]] = ("reflect", "constant", "nearest")

    def __post_init__(self) -> None:
        _require_odd(self, self.size)
        low, high = _sigmas(self.sigma)
        self.require(0.0 < low <= high, "sigma", "a number above 0, or a pair of them in order", repr(self.sigma))
        self.require(self.padding in self._PADDINGS, "padding", f"one of {', '.join(self._PADDINGS)}", repr(self.padding))

    @property
    def is_random(self) -> bool:  # type: ignore[override]
        """Whether sigma is drawn."""
        return not isinstance(self.sigma, (int, float))

    def check(self, images: tf.Tensor) -> None:
        """Reflection needs more pixels than the filter's radius."""
        super().check(images)
        smallest = min(images.shape[1], images.shape[2])
        if self.padding == "reflect":
            self.require(
                self.size // 2 < smallest, "size", f"at most {2 * smallest - 1} for these images", self.size, error=DatasetError
            )

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Columns first, then rows."""
        low, high = _sigmas(self.sigma)
        if not self.is_random:
            return batch.replace(images=_blurred(batch.images, _gaussian(self.size, low), self.padding))
        sigma = draw.uniform(low, high)[:, tf.newaxis]
        offsets = tf.range(-(self.size // 2), self.size // 2 + 1, dtype=tf.float32)
        bell = tf.exp(-0.5 * tf.square(offsets / sigma))
        weights = bell / tf.reduce_sum(bell, 1, keepdims=True)
        return batch.replace(images=_blurred(batch.images, weights, self.padding))


@dataclass(frozen=True, repr=False)
class MeanBlur(Op):
    """The mean over a square neighbourhood; outside the image counts as `padding` says.

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype, rounded to the nearest.

    Attributes:
        size: side of the square in pixels, odd.
        padding: "reflect", "constant" or "nearest", as for GaussianBlur.
    """

    size: int = 3
    padding: str = "reflect"

    def __post_init__(self) -> None:
        _require_odd(self, self.size)
        paddings = GaussianBlur._PADDINGS
        self.require(self.padding in paddings, "padding", f"one of {', '.join(paddings)}", repr(self.padding))

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Columns first, then rows."""
        return batch.replace(images=_blurred(batch.images, (1.0 / self.size,) * self.size, self.padding))


def _require_odd(op: Op, size: int) -> None:
    op.require(isinstance(size, int) and size > 0 and size % 2 == 1, "size", "an odd number of pixels", repr(size))


def _sigmas(sigma: float | tuple[float, float]) -> tuple[float, float]:
    return (float(sigma), float(sigma)) if isinstance(sigma, (int, float)) else (float(sigma[0]), float(sigma[1]))


def _gaussian(size: int, sigma: float) -> tuple[float, ...]:
    """The weights of one axis, without taps that can't matter; they add up to 1."""
    radius = size // 2
    bell = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-radius, radius + 1)]
    weights = [value / sum(bell) for value in bell]
    while len(weights) > 1 and 255 * 2 * sum(weights[:1]) < _NEGLIGIBLE:
        weights = weights[1:-1]
    return tuple(value / sum(weights) for value in weights)


# The kernels work on rows, [B, H, W * C]: over a whole row XLA's loops become vector code, over three channels they stay
# scalar (GaussianBlur(11, sigma=0.8) on 224x224x3: 232 us a sample instead of 684, Dilation(3) 200 instead of 383; one core,
# TF 2.15.1, 2026-11-23). A step along axis 2 is a pixel's channels, along axis 1 one row.


def _filter(images: tf.Tensor, kernel: Callable[..., tf.Tensor], *arguments: Any) -> tf.Tensor:
    return from_rows(kernel(to_rows(images), int(images.shape[3]), *arguments), images)


@compiled
def _extreme(rows: tf.Tensor, channels: int, size: int, kind: str) -> tf.Tensor:
    pick, outside = (tf.maximum, 0) if kind == "maximum" else (tf.minimum, 255)
    for axis, step in ((1, 1), (2, channels)):
        length, border = rows.shape[axis], size // 2 * step
        padded = tf.pad(rows, _amounts(axis, border), constant_values=outside)
        rows = _slice(padded, axis, 0, length)
        for offset in range(1, size):
            rows = pick(rows, _slice(padded, axis, offset * step, length))
    return rows


def _blurred(images: tf.Tensor, weights: Any, padding: str) -> tf.Tensor:
    """Weights: of one axis; a tuple for all samples, or float32 [B, size].

    Large images go in bands, padded beforehand: 5,400 us instead of 7,300 for size 11 on 480x640x3 (one core, 2026-11-26).
    """
    each = not isinstance(weights, tuple)
    kernel: Callable[..., tf.Tensor] = _blur_each if each else _blur
    radius = (weights.shape[1] if each else len(weights)) // 2
    channels, bands = int(images.shape[3]), band_count(images)
    if bands == 1:
        return _filter(images, kernel, weights, padding)
    rows = _pad(_pad(to_rows(images), 1, 1, radius, padding), 2, channels, radius, padding)

    def one(band: tf.Tensor, own: Any = weights) -> tf.Tensor:
        return kernel(band, channels, own, None)

    done = each_band(rows, bands, one, *([weights] if each else []), halo=radius, border=radius * channels)
    return from_rows(done, images)


@compiled
def _blur(rows: tf.Tensor, channels: int, weights: tuple[float, ...], padding: str | None) -> tf.Tensor:
    return _weighted(rows, channels, weights, padding)


@compiled
def _blur_each(rows: tf.Tensor, channels: int, weights: tf.Tensor, padding: str | None) -> tf.Tensor:
    """The same with weights float32 [B, size], other ones for each sample."""
    return _weighted(rows, channels, [tf.reshape(tap, [-1, 1, 1]) for tap in tf.unstack(weights, axis=1)], padding)


def _weighted(rows: tf.Tensor, channels: int, weights: Sequence[Any], padding: str | None) -> tf.Tensor:
    """Padding: None: the rows have it already, and lose it."""
    values, radius = tf.cast(rows, tf.float32), len(weights) // 2
    for axis, step in ((1, 1), (2, channels)):
        padded = values if padding is None else _pad(values, axis, step, radius, padding)
        length = padded.shape[axis] - 2 * radius * step
        values = tf.add_n([weight * _slice(padded, axis, offset * step, length) for offset, weight in enumerate(weights)])
    return tf.cast(values + 0.5, tf.uint8)


def _pad(values: tf.Tensor, axis: int, step: int, radius: int, padding: str) -> tf.Tensor:
    """`radius` steps on both sides of the axis."""
    if padding == "constant" or radius == 0:
        return tf.pad(values, _amounts(axis, radius * step))
    last = values.shape[axis] // step - 1
    before = range(radius, 0, -1) if padding == "reflect" else [0] * radius
    after = range(last - 1, last - 1 - radius, -1) if padding == "reflect" else [last] * radius
    sides = [[_slice(values, axis, place * step, step) for place in places] for places in (before, after)]
    return tf.concat([*sides[0], values, *sides[1]], axis)


def _amounts(axis: int, border: int) -> list[list[int]]:
    amounts = [[0, 0], [0, 0], [0, 0]]
    amounts[axis] = [border, border]
    return amounts


def _slice(values: tf.Tensor, axis: int, start: int, length: int) -> tf.Tensor:
    return values[:, start : start + length] if axis == 1 else values[:, :, start : start + length]
