"""What the fast decoding changes, PSNR in dB against the exact one on the same crops; and whether all crop alike.

    python -m augmentation.quality FOLDER DALI_FAST.npy DALI_EXACT.npy

The DALI files may be left out. Writes JSON to standard output.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from augmentation import imagenet
from augmentation.turns import take_pipe
from hetero_tfdata.augment import presets

__all__ = ["crop_area", "psnr"]


def psnr(fast: np.ndarray, exact: np.ndarray) -> dict[str, float | None]:
    """dB over pairs of uint8 [B, H, W, 3]: median and lowest of those that differ (None if none does), and how many."""
    each = tf.image.psnr(fast, exact, 255).numpy()
    finite = each[np.isfinite(each)]
    low, middle = (float(finite.min()), float(np.median(finite))) if finite.size else (None, None)
    worst = int(np.abs(fast.astype(np.int16) - exact.astype(np.int16)).max())
    return {"median_db": middle, "min_db": low, "largest_difference": worst, "images": len(each), "different": len(finite)}


def crop_area(crops: Callable[[Path], tf.Tensor]) -> float:
    """The mean area of a graph's crops as a part of the image: of a ramp from 0 to 255 it leaves as much as it is wide.

    `crops` makes images [B, H, W, 3], in [0, 255], of a folder of JPEGs.
    """
    across, down = np.meshgrid(np.linspace(0, 255, 500), np.linspace(0, 255, 375))
    ramp = np.stack([across, down, np.zeros_like(across)], -1).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate((ramp, ramp.transpose(1, 0, 2))):
            Path(folder, f"{number}.jpg").write_bytes(tf.io.encode_jpeg(image, quality=100, chroma_downsampling=False).numpy())
        images = tf.cast(crops(Path(folder)), tf.float32)[..., :2]
    # of both channels the mean difference of opposite edges, over both axes; one of the two axes is the channel's own
    beside = tf.abs(tf.reduce_mean(images[:, :, -1] - images[:, :, 0], 1))
    below = tf.abs(tf.reduce_mean(images[:, -1] - images[:, 0], 1))
    sides = tf.reduce_max(beside, 1), tf.reduce_max(below, 1)
    return float(tf.reduce_mean(sides[0] * sides[1])) / 255**2


def _images(dataset: tf.data.Dataset) -> tf.Tensor:
    return tf.concat([images for images, _ in dataset.take(4)], 0)


def _ours(folder: Path, dct: str) -> np.ndarray:
    jpegs = imagenet.input_jpegs(folder, repeat=False)
    batches = presets.imagenet_train(jpegs, imagenet.BATCH, image_size=imagenet.SIZE, seed=1, dct=dct)
    images: np.ndarray = next(iter(batches))[0].numpy()
    return images


def main() -> None:
    """Prints what the decoders' qualities differ by."""
    replies = take_pipe()
    folder = Path(sys.argv[1])
    pairs: dict[str, Any] = {"imagenet_train": psnr(_ours(folder, "fast"), _ours(folder, "exact"))}
    if len(sys.argv) > 2:
        pairs["DALI CPU"] = psnr(*(np.load(file) for file in sys.argv[2:4]))
    areas = {
        "common graph, even area": crop_area(lambda ramps: imagenet.raw_pixels(_images(imagenet.common(ramps, dct="exact")))),
        "common graph, even height": crop_area(
            lambda ramps: imagenet.raw_pixels(_images(imagenet.common(ramps, dct="exact", even="height")))
        ),
        "imagenet_train": crop_area(lambda ramps: _images(imagenet.ours(ramps, dct="exact"))),
    }
    print(json.dumps({"fast_against_exact": pairs, "mean_crop_area": areas}), file=replies)


if __name__ == "__main__":
    main()
