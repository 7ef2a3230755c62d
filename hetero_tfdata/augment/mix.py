"""Mixing: each sample with its neighbour in the batch; labels follow.

A mixed sample depends on its neighbour, so here the promise "same sample, same pixels" holds for the drawn parameters only.
Which samples stand side by side is the shuffle's affair. Mix last, after all that should belong to the sample alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from hetero_tfdata.augment.draws import Draw
from hetero_tfdata.augment.op import Batch, Op, compiled, from_rows, to_rows
from hetero_tfdata.errors import DatasetError

__all__ = ["CutMix", "MixUp"]


@dataclass(frozen=True, repr=False)
class _Mix(Op):
    """What the mixing operations share.

    Attributes:
        alpha: of the distribution Beta(alpha, alpha) that the kept part of a sample is drawn from.
    """

    alpha: float = 1.0

    is_random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        correct = isinstance(self.alpha, (int, float)) and not isinstance(self.alpha, bool) and self.alpha > 0
        self.require(correct, "alpha", "a number above 0", repr(self.alpha))

    def _labels(self, batch: Batch) -> tf.Tensor:
        expected = "float one-hot labels [B, K] (see tf.one_hot)"
        self.require(batch.labels is not None, "labels", expected, "none", error=DatasetError)
        self.require(
            not isinstance(batch.labels, (dict, list, tuple)), "labels", expected, type(batch.labels), error=DatasetError
        )
        labels = tf.convert_to_tensor(batch.labels)
        correct = labels.dtype.is_floating and labels.shape.rank == 2
        self.require(correct, "labels", expected, f"{labels.dtype.name} {labels.shape}", error=DatasetError)
        for name in ("boxes", "masks"):
            self.require(getattr(batch, name) is None, name, "none, for they cannot be mixed", "some", error=DatasetError)
        return labels


@dataclass(frozen=True, repr=False)
class MixUp(_Mix):
    """Blends each sample with the one before it in the batch (Zhang et al., arXiv 1710.09412).

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype, rounded to the nearest; labels float [B, K] -> blended alike. The
    first sample meets the last; a batch of one stays as it is. The drawn part belongs to the sample, the neighbour does not.

    Attributes:
        alpha: the kept part is drawn from Beta(alpha, alpha) for each sample; 0.2 as in the paper's ImageNet results.
    """

    alpha: float = 0.2

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """One pass over the images."""
        labels = self._labels(batch)
        kept = _beta(draw, float(self.alpha))
        images = from_rows(_blended(to_rows(batch.images), kept), batch.images)
        return batch.replace(images=images, labels=_blended_labels(labels, kept))


@dataclass(frozen=True, repr=False)
class CutMix(_Mix):
    """Pastes a rectangle of the sample before it in the batch into each sample (Yun et al., arXiv 1905.04899).

    uint8 [B, H, W, C] in [0, 255] -> same shape and dtype; labels float [B, K] -> blended by the share of pixels. The rectangle
    has the image's aspect and lies anywhere with its centre in the image, so the edges can cut it. The first sample meets the
    last; a batch of one stays as it is. The drawn rectangle belongs to the sample, the neighbour does not.

    Attributes:
        alpha: the kept part is drawn from Beta(alpha, alpha) for each sample; 1.0 as in the paper.
    """

    alpha: float = 1.0

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """One pass over the images."""
        labels = self._labels(batch)
        side = tf.sqrt(1.0 - _beta(draw, float(self.alpha)))
        top, bottom = _interval(side, draw.uniform(), batch.height)
        left, right = _interval(side, draw.uniform(), batch.width)
        edges = tf.stack([top, bottom, left, right])
        images = from_rows(_pasted(to_rows(batch.images), int(batch.images.shape[3]), edges), batch.images)
        pasted = tf.cast((bottom - top) * (right - left), tf.float32) / (batch.height * batch.width)
        return batch.replace(images=images, labels=_blended_labels(labels, 1.0 - pasted))


def _beta(draw: Draw, alpha: float) -> tf.Tensor:
    """float32 [B] from Beta(alpha, alpha), exactly, of two uniform numbers.

    Bailey's polar method for Student's t (Mathematics of Computation 62, 1994), of which this is a function (Devroye: Random
    Variate Generation in One Line of Code, 1996): no rejection, which a fixed count of draws could not do.
    """
    ratio = (
        tf.pow(1.0 - draw.uniform(), -1.0 / alpha) - 1.0
    )  # infinite for a small alpha: the result is 0 or 1, as it should be
    cosine = tf.cos(2.0 * math.pi * draw.uniform())
    return 0.5 + 0.5 * tf.sign(cosine) / tf.sqrt(1.0 + 1.0 / (ratio * tf.square(cosine)))


def _interval(part: tf.Tensor, centre: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """int32 [B] first pixel and the one after the last, of an interval of that part of the size, cut at the edges."""
    length, middle = tf.cast(part * size + 0.5, tf.int32), tf.cast(centre * size, tf.int32)
    first = middle - length // 2
    return tf.maximum(first, 0), tf.minimum(first + length, size)


@compiled
def _blended(rows: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    own, other = tf.cast(rows, tf.float32), tf.cast(tf.roll(rows, 1, 0), tf.float32)
    return tf.cast(other + (own - other) * tf.reshape(kept, [-1, 1, 1]) + 0.5, tf.uint8)


@compiled
def _pasted(rows: tf.Tensor, channels: int, edges: tf.Tensor) -> tf.Tensor:
    top, bottom, left, right = (tf.reshape(edge, [-1, 1, 1]) for edge in tf.unstack(edges))
    row = tf.reshape(tf.range(rows.shape[1]), [1, -1, 1])
    column = tf.reshape(tf.range(rows.shape[2]) // channels, [1, 1, -1])
    return tf.where((row >= top) & (row < bottom) & (column >= left) & (column < right), tf.roll(rows, 1, 0), rows)


def _blended_labels(labels: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    kept = tf.cast(kept, labels.dtype)[:, tf.newaxis]
    return labels * kept + tf.roll(labels, 1, 0) * (1.0 - kept)
