"""Filters: each pixel from its neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable
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
_WRITTEN_OUT = 15  # taps: the places near a border take a term for each of them, times as many places


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

    Padding inside a compiled function is fused into all that reads it, which then asks of each value where it lies. So the
    places near a border are written out apart where the weights are constants and few (GaussianBlur(11, sigma=0.8), 32x32x3:
    6 us instead of 15), and else the rows come padded (a drawn sigma: 19 us instead of 47). One core, 2026-11-26.
    """
    rows, channels = to_rows(images), int(images.shape[3])
    each = not isinstance(weights, tuple)
    size = weights.shape[1] if each else len(weights)
    if not each and size <= min(_WRITTEN_OUT, images.shape[1], images.shape[2]):
        return from_rows(_blur(rows, channels, weights, padding), images)
    radius = size // 2
    rows = _pad(_pad(rows, 1, 1, radius, padding), 2, channels, radius, padding)

    def blur(band: tf.Tensor, own: Any = weights) -> tf.Tensor:
        return _blur_padded(band, channels, own)

    bands = band_count(images)
    if bands == 1:
        return from_rows(blur(rows), images)
    own = [weights] if each else []
    return from_rows(each_band(rows, bands, blur, *own, halo=radius, border=radius * channels), images)


@compiled
def _blur(rows: tf.Tensor, channels: int, weights: tuple[float, ...], padding: str) -> tf.Tensor:
    values = tf.cast(rows, tf.float32)
    for axis, step in ((1, 1), (2, channels)):
        places, radius = values.shape[axis] // step, len(weights) // 2
        inner = places - 2 * radius
        parts = [*range(radius), slice(radius, radius + inner), *range(radius + inner, places)]
        values = tf.concat([_weighted(values, axis, step, part, weights, padding) for part in parts], axis)
    return tf.cast(values + 0.5, tf.uint8)


def _weighted(
    values: tf.Tensor, axis: int, step: int, part: int | slice, weights: tuple[float, ...], padding: str
) -> tf.Tensor:
    """The results of one place, or of a range of them that lies clear of the borders."""
    places, radius = values.shape[axis] // step, len(weights) // 2
    first, count = (part.start, part.stop - part.start) if isinstance(part, slice) else (part, 1)
    taps = [(weight, _inside(first + offset, places, padding)) for offset, weight in enumerate(weights, -radius)]
    return tf.add_n([weight * _slice(values, axis, at * step, count * step) for weight, at in taps if at is not None])


def _inside(place: int, places: int, padding: str) -> int | None:
    """The place that stands for one beside the image; None: nothing does."""
    if padding == "constant":
        return place if 0 <= place < places else None
    if padding == "nearest":
        return min(max(place, 0), places - 1)
    return abs(place) if place < places else 2 * (places - 1) - place


@compiled
def _blur_padded(rows: tf.Tensor, channels: int, weights: Any) -> tf.Tensor:
    """Of rows that are padded on all sides, and lose it; weights as in `_blurred`."""
    each = not isinstance(weights, tuple)
    taps = [tf.reshape(tap, [-1, 1, 1]) for tap in tf.unstack(weights, axis=1)] if each else weights
    values = tf.cast(rows, tf.float32)
    for axis, step in ((1, 1), (2, channels)):
        length = values.shape[axis] - (len(taps) - 1) * step
        values = tf.add_n([tap * _slice(values, axis, offset * step, length) for offset, tap in enumerate(taps)])
    return tf.cast(values + 0.5, tf.uint8)


def _pad(values: tf.Tensor, axis: int, step: int, radius: int, padding: str) -> tf.Tensor:
    """`radius` steps on both sides of the axis."""
    places = values.shape[axis] // step
    if padding == "constant" or radius == 0:
        return tf.pad(values, _amounts(axis, radius * step))
    before, after = (
        [_slice(values, axis, _inside(place, places, padding) * step, step) for place in outside]  # type: ignore[operator]
        for outside in (range(-radius, 0), range(places, places + radius))
    )
    return tf.concat([*before, values, *after], axis)


def _amounts(axis: int, border: int) -> list[list[int]]:
    amounts = [[0, 0], [0, 0], [0, 0]]
    amounts[axis] = [border, border]
    return amounts


def _slice(values: tf.Tensor, axis: int, start: int, length: int) -> tf.Tensor:
    return values[:, start : start + length] if axis == 1 else values[:, :, start : start + length]
