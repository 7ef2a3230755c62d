"""Workload C in NVIDIA DALI's CPU pipeline: a contender of its own environment, without TensorFlow.

    python -m augmentation.dali_peer FOLDER --dct fast --dtype uint8

Decoded with `image_random_crop`, resized without antialiasing as tf.image.resize does (with it DALI is a fifth slower), flipped
by `crop_mirror_normalize`, which also casts. use_fast_idct is all that DALI lets one choose of a CPU decoder's quality: its
chroma upsampling is always the fancy one.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import nvidia.dali as dali
from nvidia.dali import fn, types

from augmentation.turns import serve, take_pipe

BATCH = 256
SIZE = 224
MEAN = [123.675, 116.28, 103.53]
DEVIATION = [58.395, 57.12, 57.375]


def pipeline(folder: Path, *, dct: str, dtype: str, batch: int = BATCH, flip: float = 0.5) -> Any:
    """Endless batches of the folder's JPEGs in their order: float32 or uint8 [B, 224, 224, 3]."""
    jpegs = [np.fromfile(file, np.uint8) for file in sorted(folder.glob("*.jpg"))]
    place = 0

    def next_jpegs() -> list[np.ndarray]:
        nonlocal place
        chosen = [jpegs[(place + number) % len(jpegs)] for number in range(batch)]
        place += batch
        return chosen

    @dali.pipeline_def(batch_size=batch, num_threads=len(os.sched_getaffinity(0)), device_id=None, seed=1)
    def graph() -> Any:
        images = fn.decoders.image_random_crop(
            fn.external_source(source=next_jpegs, batch=True, no_copy=True),
            device="cpu",
            random_area=[0.08, 1.0],
            random_aspect_ratio=[3 / 4, 4 / 3],
            use_fast_idct=dct == "fast",
        )
        shapes = images.shape()
        images = fn.resize(images, size=[SIZE, SIZE], interp_type=types.INTERP_LINEAR, antialias=False)
        normal = {"dtype": types.FLOAT, "mean": MEAN, "std": DEVIATION}
        as_is = {"dtype": types.UINT8, "mean": [0.0] * 3, "std": [1.0] * 3}
        mirror = fn.random.coin_flip(probability=flip)
        flipped = fn.crop_mirror_normalize(
            images, output_layout="HWC", mirror=mirror, **(normal if dtype == "float32" else as_is)
        )
        return flipped, shapes

    built = graph()
    built.build()
    return built


def mean_crop_area(shapes: np.ndarray) -> float:
    """Of crops int64 [n, 3], as a part of 500x375 pixels."""
    return float(np.mean(shapes[:, 0] * shapes[:, 1] / (500 * 375)))


def main() -> None:
    """Takes turns; or, with --save, writes one batch for the comparison of decoders."""
    replies = take_pipe()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dct", choices=("fast", "exact"), required=True)
    parser.add_argument("--dtype", choices=("uint8", "float32"), required=True)
    parser.add_argument("--save", type=Path, help="write one batch there, uint8 as .npy, and end")
    options = parser.parse_args()
    built = pipeline(options.folder, dct=options.dct, dtype=options.dtype, flip=0.0 if options.save else 0.5)
    images, shapes = built.run()
    if options.save:
        np.save(options.save, images.as_array())
        return
    area = mean_crop_area(shapes.as_array())

    def pull() -> int:
        built.run()
        return BATCH

    serve(replies, pull, dtype=options.dtype, mean_crop_area=area, versions={"nvidia-dali-cuda120": dali.__version__})


if __name__ == "__main__":
    main()
