"""A small single-shot detector: in each cell of a grid, whether the centre of an object lies there, and its box.

One stage and one class, without anchors: the centre's cell is responsible for a box, as in YOLO (Redmon et al., 2016), and
whether there is an object is learnt with the focal loss (Lin et al., 2017), as most cells are empty.
"""

from __future__ import annotations

import tensorflow as tf

__all__ = ["STRIDE", "build_detector", "detect", "detection_loss", "mean_iou"]

STRIDE = 16  # pixels of a cell's side
_ALPHA, _GAMMA = 0.25, 2.0  # of the focal loss
_TYPICAL = 4.0  # cells: the size of a box for which the net says 0
_RARE = -4.6  # the logit of 1 %: so many cells hold an object, more or less


def build_detector(size: tuple[int, int], width: int = 32) -> tf.keras.Model:
    """uint8 [B, H, W, 3] -> float32 [B, H / 16, W / 16, 5]: the logit of an object, its centre in the cell, its size.

    Args:
        size: H and W, multiples of 16.
        width: channels of the first layer.
    """
    layers = tf.keras.layers
    inputs = tf.keras.Input([*size, 3], dtype=tf.uint8, name="images")
    x = layers.Rescaling(1 / 127.5, -1.0, dtype=tf.float32, name="scale")(inputs)
    for level in range(4):
        for name, strides in (("down", 2), ("same", 1)):
            x = layers.Conv2D(width * 2**level, 3, strides, "same", use_bias=False, name=f"{name}{level}")(x)
            x = layers.BatchNormalization(name=f"norm_{name}{level}")(x)
            x = layers.ReLU(name=f"relu_{name}{level}")(x)
    start = tf.keras.initializers.Constant([_RARE, 0.0, 0.0, 0.0, 0.0])
    return tf.keras.Model(
        inputs, layers.Conv2D(5, 1, bias_initializer=start, dtype=tf.float32, name="cells")(x), name="detector"
    )


def detection_loss(boxes: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """The focal loss of all cells, and the distance of the boxes in the cells that have one; both per object.

    Args:
        boxes: float32 [B, n, 4], pixels; rows of zeros are none.
        predicted: float32 [B, h, w, 5], of the net.

    Returns:
        float32 [].
    """
    cells, wanted = _targets(boxes, predicted)
    has_object = tf.minimum(tf.scatter_nd(cells, tf.ones_like(wanted[:, 0]), tf.shape(predicted)[:3]), 1.0)
    logits = predicted[..., 0]
    surprise = tf.nn.sigmoid_cross_entropy_with_logits(has_object, logits)
    right = tf.exp(-surprise)  # the probability of what is the case
    weight = tf.where(has_object > 0, _ALPHA, 1 - _ALPHA) * (1 - right) ** _GAMMA
    there = tf.gather_nd(predicted[..., 1:], cells)
    distance = tf.reduce_sum(tf.abs(tf.concat([tf.sigmoid(there[:, :2]), there[:, 2:]], 1) - wanted))
    count = tf.maximum(1.0, tf.cast(tf.shape(cells)[0], tf.float32))
    return (tf.reduce_sum(weight * surprise) + 0.2 * distance) / count


def mean_iou(boxes: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """Of each box and the one that its cell predicts, the overlap's part of both together; float32 [], their mean."""
    cells, wanted = _targets(boxes, predicted)
    there = tf.gather_nd(predicted[..., 1:], cells)
    (y, x), (tall, wide) = (tf.unstack(part, axis=1) for part in (tf.sigmoid(there[:, :2]), tf.exp(there[:, 2:]) * _TYPICAL))
    (y_to, x_to), (tall_to, wide_to) = (tf.unstack(part, axis=1) for part in (wanted[:, :2], tf.exp(wanted[:, 2:]) * _TYPICAL))

    def shared(centre: tf.Tensor, side: tf.Tensor, other: tf.Tensor, other_side: tf.Tensor) -> tf.Tensor:
        ends = tf.minimum(centre + side / 2, other + other_side / 2)
        return tf.maximum(0.0, ends - tf.maximum(centre - side / 2, other - other_side / 2))

    both = shared(y, tall, y_to, tall_to) * shared(x, wide, x_to, wide_to)
    return tf.math.divide_no_nan(
        tf.reduce_sum(both / (tall * wide + tall_to * wide_to - both)), tf.cast(tf.shape(cells)[0], tf.float32)
    )


def detect(predicted: tf.Tensor, *, most: int = 20, sure: float = 0.3) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The objects of a batch: boxes float32 [B, most, 4] in pixels, their probabilities [B, most], and how many they are, [B].

    Args:
        predicted: float32 [B, h, w, 5], of the net.
        most: objects of a frame.
        sure: the least probability.
    """
    batch, rows, columns = predicted.shape[0] or tf.shape(predicted)[0], *predicted.shape[1:3]
    corner = tf.stack(tf.meshgrid(tf.range(float(rows)), tf.range(float(columns)), indexing="ij"), -1)
    centre = corner + tf.sigmoid(predicted[..., 1:3])
    half = tf.exp(predicted[..., 3:]) * _TYPICAL / 2
    boxes = tf.reshape(tf.concat([centre - half, centre + half], -1) * STRIDE, [batch, rows * columns, 1, 4])
    scores = tf.reshape(tf.sigmoid(predicted[..., :1]), [batch, rows * columns, 1])
    found = tf.image.combined_non_max_suppression(boxes, scores, most, most, score_threshold=sure, clip_boxes=False)
    return found.nmsed_boxes, found.nmsed_scores, found.valid_detections


def _targets(boxes: tf.Tensor, predicted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The cell of each box, int32 [n, 3] (frame, row, column), and what the net should say there, float32 [n, 4]."""
    rows, columns = predicted.shape[1:3]
    frames = tf.where(boxes[..., 2] > boxes[..., 0])
    begin, end = tf.split(tf.gather_nd(boxes, frames) / STRIDE, 2, 1)  # in cells
    centre = (begin + end) / 2
    cell = tf.clip_by_value(tf.cast(centre, tf.int32), 0, [rows - 1, columns - 1])
    wanted = tf.concat([centre - tf.cast(cell, tf.float32), tf.math.log((end - begin) / _TYPICAL)], 1)
    return tf.concat([tf.cast(frames[:, :1], tf.int32), cell], 1), wanted
