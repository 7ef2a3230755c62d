"""The input: TFRecords of JPEGs to batches of uint8 images. An ordinary tf.data graph; nothing here knows of other hosts.

    dataset = make_dataset("data/train", batch_size=256, image_size=224, training=True)

It holds TensorFlow operations only, no Python functions, so it runs on a remote tf.data service worker as it stands. uint8
leaves it: casting to float would make every batch four times as large on its way to the accelerator, which does it better.
"""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf

from hetero_tfdata.errors import DataError
from records import RecordFiles, find_files

LABELS_FILE = "labels.txt"  # in the folder, one class name a line, in the order of the labels

# Files read at a time by one worker process. Under dynamic sharding a process takes that many files out of the common list
# before anybody else gets one: a folder needs several times as many files as there are processes.
_PARALLEL_FILES = 4
# Serialized records, once per worker process: about 110 MB of ImageNet's JPEGs.
_SHUFFLE_RECORDS = 1024
_AREA = (0.08, 1.0)  # of the image, and the aspect ratio, of a random-resized crop: "Going deeper with convolutions", 2014
_ASPECT = (3 / 4, 4 / 3)
_CENTRAL = 0.875  # of the shorter side, for evaluation: 224 of 256
_DCT = "INTEGER_FAST"  # a tenth less decoding time than TensorFlow's default; differences of a grey level or two


def make_dataset(
    folder: str | os.PathLike[str],
    *,
    batch_size: int,
    image_size: int,
    training: bool,
    seed: int | None = None,
    on_bad_record: str = "stop",
) -> tf.data.Dataset:
    """Batches of (uint8 [B, image_size, image_size, 3] in [0, 255], int64 [B]) from a folder of TFRecord files.

    For training: endless, shuffled, a random-resized crop of each image, flipped half of the time, whole batches only. The
    passes are repeated in here, for outside of tf.data service each would cost a second of start-up. `seed` repeats order and
    crops of a single process.
    For evaluation: each image once, in order, its central crop; the last batch may be smaller.

    A record that is cut off or can't be decoded ends the stream with an error that names its file and offset, or, with
    `on_bad_record="skip"`, is left out, named and counted on the log of the process that reads it.
    """
    files = RecordFiles(find_files(folder))
    records = files.read(parallel_files=_PARALLEL_FILES, deterministic=not training or seed is not None)
    if training:
        records = records.shuffle(_SHUFFLE_RECORDS, seed=seed).repeat()
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }

    def decode(example: tf.Tensor, crop_seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        fields = tf.io.parse_single_example(example, features)
        jpeg, label = fields["image/encoded"], fields["image/class/label"]
        image = random_resized_crop(jpeg, image_size, crop_seed) if training else central_crop(jpeg, image_size)
        return image, label

    images = files.decode(records, decode, on_bad_record=on_bad_record, blank=_blank_example(), seed=seed)
    return images.batch(batch_size, drop_remainder=training).prefetch(tf.data.AUTOTUNE)


def random_resized_crop(jpeg: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    """JPEG bytes, int32 [2] -> uint8 [size, size, 3]: a random part, resized, flipped left to right half of the time."""
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(jpeg),
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seed,
        min_object_covered=0.0,
        area_range=_AREA,
        aspect_ratio_range=_ASPECT,
    )
    window = tf.concat([begin[:2], extent[:2]], 0)
    image = tf.io.decode_and_crop_jpeg(jpeg, window, channels=3, dct_method=_DCT)
    return tf.image.stateless_random_flip_left_right(_resize(image, size), seed + 1)


def central_crop(jpeg: tf.Tensor, size: int) -> tf.Tensor:
    """JPEG bytes -> uint8 [size, size, 3]: the central square, 7/8 of the shorter side, resized."""
    shape = tf.io.extract_jpeg_shape(jpeg)[:2]
    side = tf.cast(tf.round(_CENTRAL * tf.cast(tf.reduce_min(shape), tf.float32)), tf.int32)
    window = tf.concat([(shape - side) // 2, [side, side]], 0)
    return _resize(tf.io.decode_and_crop_jpeg(jpeg, window, channels=3, dct_method=_DCT), size)


def _resize(image: tf.Tensor, size: int) -> tf.Tensor:
    resized = tf.image.resize(image, [size, size])  # bilinear, float32
    return tf.ensure_shape(tf.cast(tf.round(resized), tf.uint8), [size, size, 3])


def read_labels(folder: str | os.PathLike[str]) -> list[str]:
    """The class names in the order of their labels, from the folder's labels.txt."""
    file = Path(folder) / LABELS_FILE
    try:
        names = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise DataError(
            f"expected the class names in {str(file)!r}, one a line; prepare.py writes that file, --classes N does without"
        ) from None
    if not names:
        raise DataError(f"{str(file)!r} names no class: expected one a line, in the order of the labels")
    return names


def _blank_example() -> bytes:
    jpeg = tf.io.encode_jpeg(tf.zeros([8, 8, 3], tf.uint8)).numpy()
    feature = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[jpeg])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[0])),
    }
    return bytes(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True))
