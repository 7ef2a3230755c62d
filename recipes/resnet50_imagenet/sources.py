"""Where prepare.py takes its images from: scikit-image's photographs, or a folder of class folders.

TensorFlow, NumPy and Pillow are imported where they are used: a second run of prepare.py has nothing to make and shouldn't
wait for them.
"""

from __future__ import annotations

import hashlib
import io
import random
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from hetero_tfdata.errors import ConfigurationError, DataError

LONGER_SIDE = 500  # of an ImageNet photograph, mostly 500x375 or 375x500
_QUALITY = 92  # of the JPEGs made here
_CROP_AREA = (0.25, 1.0)  # of the largest 4:3 or 3:4 crop of a photograph

# The colour photographs among what scikit-image's wheel carries (its other images would be downloaded).
PHOTOGRAPHS = {
    "astronaut": ("astronaut.png",),
    "cat": ("chelsea.png",),
    "coffee": ("coffee.png",),
    "galaxies": ("hubble_deep_field.jpg",),
    "motorcycle": ("motorcycle_left.png", "motorcycle_right.png"),
    "retina": ("retina.jpg",),
    "rocket": ("rocket.jpg",),
    "tissue": ("ihc.png",),
}


@dataclass(frozen=True)
class Image:
    """One image to be written: a JPEG and what is known about it."""

    jpeg: bytes
    label: int
    class_name: str
    filename: str
    height: int
    width: int


class BadImage(Exception):
    """An image of the source that can't be used; the message says which and why."""


class Source(Protocol):
    """Where images come from. `make(split, index)` gives the same image whenever it is asked for."""

    @property
    def classes(self) -> list[str]:
        """Their names, in the order of the labels."""

    @property
    def counts(self) -> dict[str, int]:
        """Images of each split."""

    def make(self, split: str, index: int) -> Image:
        """The image, or `BadImage`."""


@dataclass
class Photographs:
    """Random crops of scikit-image's photographs, one class per photograph, the classes taking turns."""

    images: int
    longer_side: int
    validation_share: float
    seed: int
    classes: list[str] = field(default_factory=lambda: sorted(PHOTOGRAPHS))
    _opened: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def counts(self) -> dict[str, int]:
        """Images of each split."""
        validation = round(self.images * self.validation_share)
        return {"train": self.images - validation, "validation": validation}

    def make(self, split: str, index: int) -> Image:
        """The crop number `index`; training's and validation's are drawn apart."""
        import numpy as np
        from PIL import Image as Pillow

        draw = np.random.default_rng([self.seed, ("train", "validation").index(split), index])
        label = index % len(self.classes)
        files = PHOTOGRAPHS[self.classes[label]]
        photograph = self._open(files[draw.integers(len(files))])
        long, short = self.longer_side, round(self.longer_side * 3 / 4)
        width, height = (long, short) if draw.random() < 0.5 else (short, long)
        # The largest crop of that shape, then a part of it.
        largest = min(photograph.width / width, photograph.height / height)
        scale = largest * draw.uniform(*_CROP_AREA) ** 0.5
        crop_width, crop_height = width * scale, height * scale
        left = draw.uniform(0, photograph.width - crop_width)
        top = draw.uniform(0, photograph.height - crop_height)
        box = (left, top, left + crop_width, top + crop_height)
        crop = photograph.resize((width, height), Pillow.Resampling.LANCZOS, box=box)
        return Image(_encode(crop), label, self.classes[label], f"{self.classes[label]}_{split}_{index:06}.jpg", height, width)

    def _open(self, name: str) -> Any:
        from PIL import Image as Pillow

        if name not in self._opened:
            # By path: skimage.data's own functions may download, and importing them takes a second.
            spec = find_spec("skimage")
            if spec is None or spec.origin is None:
                raise ConfigurationError(
                    "the photographs come with scikit-image, which is not installed: pip install 'hetero-tfdata[recipes]', "
                    "or pass --from-folder"
                )
            path = Path(spec.origin).parent / "data" / name
            if not path.is_file():
                raise DataError(f"this scikit-image lacks the photograph {str(path)!r}: install 0.22 or later")
            self._opened[name] = Pillow.open(path).convert("RGB")
        return self._opened[name]


@dataclass
class ClassFolders:
    """The JPEGs of a folder of class folders; labels follow the sorted class names."""

    folder: Path
    longer_side: int | None
    validation_share: float
    seed: int
    classes: list[str] = field(default_factory=list)
    splits: dict[str, list[tuple[Path, int]]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise ConfigurationError(f"--from-folder: expected a folder of class folders, {str(self.folder)!r} is none")
        self.classes = sorted(entry.name for entry in self.folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
        self.splits = {"train": [], "validation": []}
        for label, name in enumerate(self.classes):
            files = sorted(path for path in (self.folder / name).iterdir() if path.is_file() and path.name[0] != ".")
            random.Random(f"{self.seed} {name}").shuffle(files)
            kept_back = round(len(files) * self.validation_share)
            self.splits["validation"] += [(path, label) for path in files[:kept_back]]
            self.splits["train"] += [(path, label) for path in files[kept_back:]]
        if not self.splits["train"]:
            raise DataError(f"--from-folder: {str(self.folder)!r} has no class folder with a file in it")
        for split, members in self.splits.items():
            random.Random(f"{self.seed} {split}").shuffle(members)

    @property
    def counts(self) -> dict[str, int]:
        """Images of each split."""
        return {split: len(members) for split, members in self.splits.items()}

    @property
    def digest(self) -> str:
        """Changes when a file comes, goes or changes its size."""
        listing = sorted(
            f"{path.relative_to(self.folder)} {path.stat().st_size}" for files in self.splits.values() for path, _ in files
        )
        return hashlib.sha256("\n".join(listing).encode()).hexdigest()[:16]

    def make(self, split: str, index: int) -> Image:
        """The file as it is, or resized when a longer side was asked for."""
        import tensorflow as tf
        from PIL import Image as Pillow

        path, label = self.splits[split][index]
        jpeg = path.read_bytes()
        if jpeg[:3] != b"\xff\xd8\xff":
            raise BadImage(f"{path}: not a JPEG")
        try:
            pixels = tf.io.decode_jpeg(jpeg, channels=3).numpy()  # the decoder that training will use
        except tf.errors.InvalidArgumentError:
            raise BadImage(f"{path}: a JPEG that can't be decoded") from None
        if self.longer_side is not None:
            picture = Pillow.fromarray(pixels)
            scale = self.longer_side / max(picture.size)
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            picture = picture.resize(size, Pillow.Resampling.LANCZOS)
            jpeg, (width, height) = _encode(picture), picture.size
        else:
            height, width = pixels.shape[:2]
        return Image(jpeg, label, self.classes[label], f"{self.classes[label]}/{path.name}", height, width)


def _encode(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
