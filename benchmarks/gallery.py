"""One contact sheet: every operation of the catalogue at three strengths on a photograph.

make gallery
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import skimage.data
import tensorflow as tf
from PIL import Image, ImageDraw

from hetero_tfdata import augment
from hetero_tfdata.augment.catalogue import CATALOGUE, Entry

SIDE = 96
COLUMNS = 4
STRENGTHS = (1, 2, 3)
CAPTION = 14
GAP = 6
SHEET = Path(__file__).with_suffix(".png")


def photographs() -> np.ndarray:
    """uint8 [2, SIDE, SIDE, 3]: a cat, and for operations that mix two images an astronaut."""
    cat, astronaut = skimage.data.chelsea()[20:280, 90:350], skimage.data.astronaut()[:260, 90:350]
    return np.stack([np.asarray(Image.fromarray(photo).resize((SIDE, SIDE), Image.BILINEAR)) for photo in (cat, astronaut)])


def example(entry: Entry, strength: int, photos: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3]: the photograph after the operation; of several seeds the one that shows most."""
    images = photos if entry.channels == 3 else photos.mean(-1, keepdims=True).astype(np.uint8)
    chain = augment.Chain([entry.make(strength, SIDE)], seed=1, key=2)
    shown, most = images[0], -1.0
    for key in range(6):
        result = visible(chain(tf.constant(images), tf.one_hot([0, 1], 2), tf.constant([key, key + 100]))[0].numpy()[0])
        same_size = result.shape == images[0].shape
        change = float(np.abs(result.astype(float) - images[0]).mean()) if same_size else 0.0
        if change > most:
            shown, most = result, change
    return np.repeat(shown, 3, -1) if shown.shape[-1] == 1 else shown


def visible(image: np.ndarray) -> np.ndarray:
    """uint8 as it is; floats from 0 (black) to the largest (white)."""
    return image if image.dtype == np.uint8 else (image.clip(0) / image.max() * 255).astype(np.uint8)


def sheet() -> Image.Image:
    """The contact sheet."""
    photos = photographs()
    cell_width, cell_height = len(STRENGTHS) * (SIDE + 2) + GAP, SIDE + CAPTION + GAP
    rows = -(-len(CATALOGUE) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * cell_width + GAP, rows * cell_height + GAP), "white")
    pen = ImageDraw.Draw(page)
    for number, entry in enumerate(CATALOGUE):
        left = GAP + number % COLUMNS * cell_width
        top = GAP + number // COLUMNS * cell_height
        caption = repr(entry.make(2, SIDE))
        while pen.textlength(caption) > cell_width - GAP:
            caption = caption[:-5] + "..."
        pen.text((left, top), caption, fill="black")
        for column, strength in enumerate(STRENGTHS):
            picture = Image.fromarray(example(entry, strength, photos))
            picture.thumbnail((SIDE, SIDE))
            page.paste(picture, (left + column * (SIDE + 2), top + CAPTION))
        print(f"gallery: {number + 1} of {len(CATALOGUE)}: {entry.name}", file=sys.stderr)
    return page


if __name__ == "__main__":
    sheet().quantize(128).save(SHEET, optimize=True)
    print(f"written to {SHEET.relative_to(Path.cwd()) if SHEET.is_relative_to(Path.cwd()) else SHEET}")
