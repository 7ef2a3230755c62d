"""Makes TFRecords of camera frames with boxes: photographs as the scenery, vehicles drawn into it, grain as a sensor's.

    python prepare.py --output data --frames 512

Downloads nothing: the photographs come with scikit-image. Each file gets its name when it is whole; those that are there
already stay, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hetero_tfdata.errors import ConfigurationError, HeteroTFDataError

if TYPE_CHECKING:
    from PIL import Image

MOST_VEHICLES = 20
_PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
_QUALITY, _GRAIN = 90, 4.0
_HORIZON = 0.4  # of the height; vehicles stand below it, the nearer the larger


def scenery(name: str) -> Image.Image:
    """A photograph."""
    from PIL import Image

    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ConfigurationError("the scenery comes with scikit-image, which is not installed: pip install scikit-image")
    return Image.open(Path(spec.origin).parent / "data" / name).convert("RGB")


def make_frame(number: int, width: int, height: int, seed: int = 0) -> tuple[bytes, np.ndarray]:
    """Frame `number`: its JPEG, and the boxes float32 [n, 4] of its vehicles: y_min, x_min, y_max, x_max, in [0, 1]."""
    from PIL import Image, ImageDraw

    draw = np.random.default_rng([seed, number])
    photograph = scenery(_PHOTOGRAPHS[number % len(_PHOTOGRAPHS)])
    part = draw.uniform(0.4, 1.0) * min(photograph.width / width, photograph.height / height)
    left = draw.uniform(0, photograph.width - part * width)
    top = draw.uniform(0, photograph.height - part * height)
    frame = photograph.resize(
        (width, height), Image.Resampling.BICUBIC, box=(left, top, left + part * width, top + part * height)
    )
    pen, boxes = ImageDraw.Draw(frame), []
    for depth in sorted(draw.uniform(0.05, 1.0, draw.integers(0, MOST_VEHICLES + 1))):  # those behind come first
        tall = height * (0.04 + 0.3 * depth**2)
        wide = tall * draw.uniform(1.2, 2.0)
        bottom = height * (_HORIZON + (1 - _HORIZON) * depth)
        x = draw.uniform(0, width - wide)
        box = np.clip([bottom - tall, x, bottom, x + wide], 0, [height, width, height, width])
        _vehicle(pen, box, tuple(int(value) for value in draw.integers(40, 256, 3)))
        boxes.append(box / [height, width, height, width])
    pixels = np.asarray(frame, np.float32) + draw.normal(0, _GRAIN, (height, width, 1))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue(), np.asarray(boxes, np.float32).reshape(-1, 4)


def _vehicle(pen: Any, box: Sequence[float], paint: tuple[int, ...]) -> None:
    """A body, a window, two wheels."""
    y0, x0, y1, x1 = box
    tall, wide = y1 - y0, x1 - x0
    dark = tuple(value // 4 for value in paint)
    pen.rounded_rectangle((x0, y0, x1, y1 - 0.12 * tall), radius=0.2 * tall, fill=paint)
    pen.rounded_rectangle((x0 + 0.12 * wide, y0 + 0.1 * tall, x1 - 0.12 * wide, y0 + 0.45 * tall), radius=0.1 * tall, fill=dark)
    for side in (0.2, 0.8):
        middle = x0 + side * wide
        pen.ellipse((middle - 0.16 * tall, y1 - 0.32 * tall, middle + 0.16 * tall, y1), fill=(15, 15, 15))


def write_shard(path: Path, frames: range, width: int, height: int, seed: int) -> None:
    """One TFRecord file, in the layout of TensorFlow's object detection."""
    import tensorflow as tf

    partial = path.with_name(f".{path.name}.partial")
    with tf.io.TFRecordWriter(str(partial)) as writer:
        for number in frames:
            jpeg, boxes = make_frame(number, width, height, seed)
            names = ("ymin", "xmin", "ymax", "xmax")
            feature = {
                "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[jpeg])),
                **{
                    f"image/object/bbox/{name}": tf.train.Feature(float_list=tf.train.FloatList(value=boxes[:, side]))
                    for side, name in enumerate(names)
                },
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True))
    os.replace(partial, path)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(prog="prepare.py", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="DIR", help="folder to fill with train/")
    add("--frames", type=int, default=512, metavar="N", help="(%(default)s)")
    add("--width", type=int, default=1280, metavar="N", help="pixels (%(default)s)")
    add("--height", type=int, default=960, metavar="N", help="pixels (%(default)s)")
    add("--shards", type=int, default=16, metavar="K", help="files (%(default)s)")
    add("--seed", type=int, default=0, help="(%(default)s)")
    options = parser.parse_args(argv)
    for name, low in (("frames", 1), ("width", 64), ("height", 64), ("shards", 1), ("seed", 0)):
        if getattr(options, name) < low:
            raise ConfigurationError(f"--{name}: expected at least {low}, got {getattr(options, name)}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        options = parse(argv)
        folder = options.output / "train"
        folder.mkdir(parents=True, exist_ok=True)
        count = min(options.shards, options.frames)
        for shard in range(count):
            frames = range(options.frames * shard // count, options.frames * (shard + 1) // count)
            # all that decides what is in it
            made = f"{options.frames}x{options.width}x{options.height}-{options.seed}"
            path = folder / f"{made}-{shard:05}-of-{count:05}.tfrecord"
            if not path.is_file():
                write_shard(path, frames, options.width, options.height, options.seed)
                print(f"prepare: {frames.stop} of {options.frames} frames", file=sys.stderr, flush=True)
        others = [path.name for path in folder.glob("*.tfrecord") if not path.name.startswith(f"{made}-")]
        if others:
            raise ConfigurationError(f"{folder} has files of other arguments, such as {others[0]}: choose another --output")
    except HeteroTFDataError as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"prepare.py: can't write to {str(options.output)!r}: {error}", file=sys.stderr)
        return 1
    print(f"{folder}: {options.frames} frames in {count} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
