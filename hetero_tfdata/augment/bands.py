"""How images pass through a kernel that works on rows [B, H, W * C] (see `to_rows`): as a batch, one by one, or in bands.

A compiled kernel keeps what lies between two of its passes for all that it is given at once. Small images go as a batch, as
each call costs some 40 us; larger ones one after the other, and the largest in bands of rows, so that it stays in the
processor's cache. Figures: one core, TF 2.15.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from hetero_tfdata.augment.op import Batch, from_rows, to_rows

__all__ = ["band_count", "each_band", "in_bands", "on_rows", "one_by_one"]

# values an image: below, 40 us a call are more than a cold cache costs (estimated from the figures at 224x224x3)
_LARGE = 64 * 64 * 3
# values of which what lies between two passes fits into the processor's cache
_BAND = 224 * 224 * 3


def on_rows(batch: Batch, kernel: Callable[..., tf.Tensor], *arguments: Any) -> Batch:
    """The batch with kernel(rows, channels, *arguments) for images."""
    rows = kernel(to_rows(batch.images), int(batch.images.shape[3]), *arguments)
    return batch.replace(images=from_rows(rows, batch.images))


def one_by_one(batch: Batch, kernel: Callable[..., tf.Tensor], *factors: tf.Tensor) -> Batch:
    """The same, one image after the other: 365 instead of 740 us for Equalize, 420 instead of 850 for Hue at 224x224x3.

    Args:
        batch: small images go as a batch.
        kernel: kernel(rows, channels, *factors).
        factors: [B] or [1] each.
    """
    return _in_bands(batch, 1, kernel, factors)


def in_bands(batch: Batch, kernel: Callable[..., tf.Tensor], *factors: tf.Tensor) -> Batch:
    """The same for a kernel that works pixel by pixel, with large images cut into bands of rows.

    Hue of a frame of 480x640: 2,390 us instead of 3,780 as a whole, and 3 MB between the passes instead of 18 (2026-11-26).
    Saturation, which is one pass, loses: 1,530 instead of 730.
    """
    return _in_bands(batch, band_count(batch.images), kernel, factors)


def _in_bands(batch: Batch, bands: int, kernel: Callable[..., tf.Tensor], factors: Sequence[tf.Tensor]) -> Batch:
    channels = int(batch.images.shape[3])
    if batch.height * batch.width * channels < _LARGE:
        return on_rows(batch, kernel, *factors)
    rows = to_rows(batch.images)
    done = each_band(rows, bands, lambda band, *own: kernel(band, channels, *own), *factors)
    return batch.replace(images=from_rows(done, batch.images))


def band_count(images: tf.Tensor) -> int:
    """Into how many bands of equal height to cut each of uint8 [B, H, W, C].

    As few as keep a band below a size that suits the cache; 1 where none are equal, or the equal ones are too small.
    """
    _, height, width, channels = images.shape
    for bands in range(1, height + 1):
        values = height // bands * width * channels
        if height % bands == 0 and values <= _BAND:
            return bands if values >= _LARGE else 1
    return 1


def each_band(
    rows: tf.Tensor, bands: int, kernel: Callable[..., tf.Tensor], *factors: tf.Tensor, halo: int = 0, border: int = 0
) -> tf.Tensor:
    """One band after the other through a kernel.

    Args:
        rows: uint8 [B, H + 2 halo, L + 2 border].
        bands: a divisor of H.
        kernel: kernel(uint8 [1, H / bands + 2 halo, L + 2 border], *factors of that sample, [1, ...]) -> [1, H / bands, L].
        factors: [B, ...] or [1, ...] each.
        halo: rows above and below a band that its kernel reads as well.
        border: the same for values beside it.

    Returns:
        uint8 [B, H, L].
    """
    samples, height = tf.shape(rows)[0], (rows.shape[1] - 2 * halo) // bands
    spread = [tf.broadcast_to(factor, tf.concat([[samples], tf.shape(factor)[1:]], 0)) for factor in factors]

    @tf.autograph.experimental.do_not_convert
    def one(number: tf.Tensor) -> tf.Tensor:
        sample = number // bands
        band = tf.slice(rows, [sample, number % bands * height, 0], [1, height + 2 * halo, rows.shape[2]])
        return kernel(band, *(factor[sample : sample + 1] for factor in spread))[0]

    length = rows.shape[2] - 2 * border
    done = tf.map_fn(one, tf.range(samples * bands), fn_output_signature=tf.TensorSpec([height, length], tf.uint8))
    return tf.reshape(done, [-1, height * bands, length])
