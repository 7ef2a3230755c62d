"""The input: TFRecords of camera frames to batches of augmented uint8 frames, their boxes with them."""

from __future__ import annotations

import tensorflow as tf

from hetero_tfdata import files
from hetero_tfdata.augment import presets

__all__ = ["make_dataset", "parsed_records"]

_SHUFFLE = 128  # frames, in each worker process: 40 MB of JPEGs
_SIDES = ("ymin", "xmin", "ymax", "xmax")
_FEATURES: dict[str, object] = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
_FEATURES |= {f"image/object/bbox/{side}": tf.io.RaggedFeature(tf.float32) for side in _SIDES}


def make_dataset(
    channel: str, batch_size: int, *, size: tuple[int, int] = (480, 640), seed: int | None = None
) -> tf.data.Dataset:
    """Endless batches: {"images": uint8 [B, H, W, 3], "boxes": float32 [B, (n), 4], ragged}.

    Boxes are y_min, x_min, y_max, x_max in pixels of the batch's frames; what was cropped away is left out.

    Args:
        channel: the job's, or a folder of TFRecords (prepare.py).
        batch_size: frames.
        size: height and width of the batch's frames.
        seed: of files' order and augmentations.
    """
    return presets.driving_train(parsed_records(channel, seed), batch_size, size=size, seed=seed, key="key", epoch="epoch")


def parsed_records(channel: str, seed: int | None = None, passes: int | None = None) -> tf.data.Dataset:
    """Frames: {"image": JPEG, "boxes": float32 [n, 4] in its pixels, "key": string, "epoch": int64}; None: without end."""
    records = files(channel, "*.tfrecord", passes=passes, seed=seed).shuffle(_SHUFFLE, seed=seed)
    return records.map(_parsed, num_parallel_calls=tf.data.AUTOTUNE)


def _parsed(record: tf.Tensor, key: tf.Tensor, epoch: tf.Tensor) -> dict[str, tf.Tensor]:
    fields = tf.io.parse_single_example(record, _FEATURES)
    height, width = tf.unstack(tf.cast(tf.io.extract_jpeg_shape(fields["image/encoded"])[:2], tf.float32))
    boxes = tf.stack([fields[f"image/object/bbox/{side}"] for side in _SIDES], -1)
    return {
        "image": fields["image/encoded"],
        "boxes": boxes * tf.stack([height, width, height, width]),
        "key": key,
        "epoch": epoch,
    }
