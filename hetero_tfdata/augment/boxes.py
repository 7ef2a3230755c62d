"""Boxes that follow what becomes of their images: moved, clipped to the image, dropped where less than a pixel is left.

Boxes are float32 [B, (n), 4], ragged: y_min, x_min, y_max, x_max. Coordinates are pixel edges: pixel (0, 0) spans 0 to 1, its
centre, which transforms count as 0, lies at 0.5.

Written in few operations of TensorFlow, as each of them costs some 20 kB wherever the graph runs: its own functions for ragged
tensors, tf.ragged.boolean_mask and RaggedTensor.value_rowids, take 150 for what takes 30 here.
"""

from __future__ import annotations

import tensorflow as tf

from hetero_tfdata.augment.sampling import as_matrices

__all__ = ["as_ragged", "crop_boxes", "move_boxes"]


def as_ragged(boxes: tf.Tensor | tf.RaggedTensor) -> tf.RaggedTensor:
    """float32 [B, n, 4] -> [B, (n), 4]; ragged ones stay."""
    if isinstance(boxes, tf.RaggedTensor):
        return boxes
    images, each, _ = tf.unstack(tf.shape(boxes, tf.int64))
    return tf.RaggedTensor.from_uniform_row_length(tf.reshape(boxes, [-1, 4]), each, images, validate=False)


def move_boxes(boxes: tf.RaggedTensor, transforms: tf.Tensor, height: int, width: int) -> tf.RaggedTensor:
    """The boxes around the moved corners.

    Args:
        boxes: float32 [B, (n), 4].
        transforms: float32 [B, 8], of the sampling of the images; see sampling.py.
        height: of the images that the sampling made, pixels.
        width: likewise.
    """
    y0, x0, y1, x1 = tf.unstack(boxes.values - 0.5, axis=1)
    one = tf.ones_like(x0)
    corners = tf.reshape(tf.stack([x0, x1, x0, x1, y0, y0, y1, y1, one, one, one, one], 1), [-1, 3, 4])
    moved = tf.matmul(tf.gather(tf.linalg.inv(as_matrices(transforms)), _images_of(boxes)), corners)
    x, y, scale = tf.unstack(moved, axis=1)
    x, y = x / scale + 0.5, y / scale + 0.5
    around = tf.stack([tf.reduce_min(y, 1), tf.reduce_min(x, 1), tf.reduce_max(y, 1), tf.reduce_max(x, 1)], 1)
    return _what_is_left(boxes, around, height, width)


def crop_boxes(boxes: tf.RaggedTensor, windows: tf.Tensor, height: int, width: int) -> tf.RaggedTensor:
    """The boxes in windows of the images that are scaled to a size.

    Args:
        boxes: float32 [B, (n), 4].
        windows: int32 [B, 4]: top, left, height and width.
        height: of the scaled windows, pixels.
        width: likewise.
    """
    begin, extent = tf.split(tf.cast(windows, tf.float32), 2, 1)
    scale = tf.constant([height, width], tf.float32) / extent
    begin, scale = tf.unstack(tf.gather(tf.stack([begin, scale], 1), _images_of(boxes)), axis=1)
    return _what_is_left(boxes, (boxes.values - tf.tile(begin, [1, 2])) * tf.tile(scale, [1, 2]), height, width)


def _images_of(boxes: tf.RaggedTensor) -> tf.Tensor:
    """int64 [boxes in all]: the image that each belongs to."""
    splits = boxes.row_splits
    numbers = tf.range(splits[-1])
    return tf.raw_ops.UpperBound(sorted_inputs=splits[tf.newaxis], values=numbers[tf.newaxis], out_type=tf.int64)[0] - 1


def _what_is_left(boxes: tf.RaggedTensor, corners: tf.Tensor, height: int, width: int) -> tf.RaggedTensor:
    """`boxes` with other corners, float32 [boxes in all, 4], clipped; those of which nothing can be seen are left out."""
    corners = tf.clip_by_value(corners, 0.0, tf.constant([height, width, height, width], tf.float32))
    begin, end = tf.split(corners, 2, 1)
    is_left = tf.reduce_all(end - begin >= 1.0, 1)
    before = tf.concat([[0], tf.cumsum(tf.cast(is_left, boxes.row_splits.dtype))], 0)
    kept = tf.gather(corners, tf.squeeze(tf.where(is_left), 1))
    return tf.RaggedTensor.from_row_splits(kept, tf.gather(before, boxes.row_splits), validate=False)
