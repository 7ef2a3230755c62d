"""JPEGs for workload C: crops of scikit-image's photographs, 500x375 or 375x500 at quality 92 (WORKLOADS.md, C)."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FRAMES = "frames"  # folder of workload D's, beside those of C

__all__ = ["FRAMES", "ROOT", "files", "make", "make_frames"]


def make(folder: Path, count: int) -> dict[str, float]:
    """Fills the folder with `count` files, those of 45 to 110 kB; done at once if they are there. Their number and mean kB."""
    index = folder / "index.json"
    if index.is_file():
        found: dict[str, float] = json.loads(index.read_text())
        if found["images"] == count:
            return found
    source = _source(count * 8, 500)
    folder.mkdir(parents=True, exist_ok=True)
    for old in files(folder):
        old.unlink()
    sizes: list[int] = []
    number = 0
    while len(sizes) < count:
        jpeg = source.make("train", number).jpeg
        number += 1
        if 45_000 <= len(jpeg) <= 110_000:
            (folder / f"{len(sizes):05}.jpg").write_bytes(jpeg)
            sizes.append(len(jpeg))
            if len(sizes) % 64 == 0:
                print(f"bench-augment: {len(sizes)} of {count} photographs", file=sys.stderr, flush=True)
    facts = {"images": count, "mean_kb": round(sum(sizes) / count / 1e3, 1)}
    index.write_text(json.dumps(facts) + "\n")
    return facts


def make_frames(folder: Path, count: int) -> None:
    """Fills the folder with `count` frames of workload D, 1280x960 at quality 90: crops upscaled, with grain."""
    if len(files(folder)) == count:
        return
    folder.mkdir(parents=True, exist_ok=True)
    source, rng = _source(count * 8, 1280), np.random.default_rng(0)
    done = number = 0
    while done < count:
        made = source.make("train", number)
        number += 1
        if made.width > made.height:
            pixels = np.asarray(Image.open(io.BytesIO(made.jpeg)), np.float32)
            grainy = (pixels + rng.normal(0, 4, (*pixels.shape[:2], 1))).clip(0, 255).astype(np.uint8)
            Image.fromarray(grainy).save(folder / f"{done:05}.jpg", quality=90)
            done += 1


def _source(images: int, longer_side: int) -> Any:
    sys.path.insert(0, str(ROOT / "recipes/resnet50_imagenet"))
    try:
        from sources import Photographs
    finally:
        sys.path.pop(0)
    return Photographs(images=images, longer_side=longer_side, validation_share=0.0, seed=0)


def files(folder: Path) -> list[Path]:
    """The JPEGs in their order."""
    return sorted(folder.glob("*.jpg"))
