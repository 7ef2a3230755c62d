"""Decoded photographs as one file of bytes, which senders map into memory: nobody decodes while the wire is measured."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from augmentation import photographs

SIDE = 224
ROW_BYTES = SIDE * SIDE * 3
_PHOTOGRAPHS = 512  # as many as bench-augment makes, so that neither makes them anew after the other

__all__ = ["ROW_BYTES", "SIDE", "make"]


def make(file: Path, folder: Path, count: int) -> None:
    """Writes uint8 [count, SIDE, SIDE, 3], the resized middle of photographs of the folder; done at once if it is there."""
    from PIL import Image

    if file.is_file() and file.stat().st_size == count * ROW_BYTES:
        return
    photographs.make(folder, _PHOTOGRAPHS)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".part")
    with unfinished.open("wb") as pixels:
        for jpeg in photographs.files(folder)[:count]:
            image = Image.open(io.BytesIO(jpeg.read_bytes())).convert("RGB")
            side = min(image.size) * 7 // 8
            left, top = ((length - side) // 2 for length in image.size)
            box = (left, top, left + side, top + side)
            pixels.write(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box)).tobytes())
    unfinished.rename(file)
