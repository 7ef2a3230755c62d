"""The input in Python: OpenCV decodes the frames, albumentations augments them and moves their boxes, on the data hosts.

What workers import is this module: `augmented` stands at its top, so that each process finds it by its name.
"""

from __future__ import annotations

import threading
import zlib
from typing import TYPE_CHECKING

import cv2
import numpy as np
import tensorflow as tf

from dataset import parsed_records

if TYPE_CHECKING:
    import albumentations

__all__ = ["augmented", "make_dataset"]

_SMALLEST = 4  # pixels of a box that is still one
_mine = threading.local()  # a chain has a random state, and several threads call at once
cv2.setNumThreads(0)  # tf.data calls from as many threads as there are CPUs


def make_dataset(
    channel: str,
    batch_size: int,
    *,
    size: tuple[int, int] = (480, 640),
    seed: int | None = None,
    passes: int | None = None,
) -> tf.data.Dataset:
    """As `dataset.make_dataset`: {"images": uint8 [B, H, W, 3], "boxes": float32 [B, (n), 4], ragged}.

    Args:
        channel: the job's, or a folder of TFRecords (prepare.py).
        batch_size: frames.
        size: height and width of the batch's frames.
        seed: of files' order and augmentations.
        passes: over the records; None: without end.
    """
    height, width = size

    def augment(frame: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        inputs = [frame["image"], frame["boxes"], frame["key"], frame["epoch"], height, width, seed or 0]
        images, boxes = tf.numpy_function(augmented, inputs, [tf.uint8, tf.float32])
        return {"images": tf.ensure_shape(images, [height, width, 3]), "boxes": tf.ensure_shape(boxes, [None, 4])}

    frames = parsed_records(channel, seed, passes).map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    return frames.ragged_batch(batch_size, drop_remainder=passes is None).prefetch(tf.data.AUTOTUNE)


def augmented(
    jpeg: bytes, boxes: np.ndarray, key: bytes, epoch: np.int64, height: int, width: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """A frame, uint8 [height, width, 3], and those of its boxes that are still in it, float32 [n, 4].

    Boxes are y_min, x_min, y_max, x_max in pixels. What becomes of a frame follows from seed, key and epoch alone, whichever
    process calls.
    """
    image = cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    chain = _chain(int(height), int(width))
    chain.set_random_seed(zlib.crc32(b"%d %s %d" % (seed, key, epoch)))
    found = chain(image=image, bboxes=boxes[:, [1, 0, 3, 2]])
    kept = np.asarray(found["bboxes"], np.float32).reshape(-1, 4)[:, [1, 0, 3, 2]]
    return found["image"], kept


def _chain(height: int, width: int) -> albumentations.Compose:
    """Random-resized crop, flip, rotation of up to 5 degrees, colours, blur."""
    import albumentations as A

    chains = _mine.__dict__.setdefault("chains", {})
    if (height, width) not in chains:
        steps = [
            A.RandomResizedCrop((height, width), scale=(0.25, 1.0), ratio=(1.2, 1.5)),
            A.HorizontalFlip(p=0.5),
            A.Rotate(5, border_mode=cv2.BORDER_REFLECT_101, p=1.0),
            A.ColorJitter(0.2, 0.2, 0.2, 0.02, p=1.0),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=1.0),
        ]
        chains[height, width] = A.Compose(
            steps, bbox_params=A.BboxParams("pascal_voc", min_width=_SMALLEST, min_height=_SMALLEST, clip=True)
        )
    return chains[height, width]
