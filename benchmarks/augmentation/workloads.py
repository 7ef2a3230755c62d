"""Which contenders each workload has, and which comparisons are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from augmentation.measure import Contender

__all__ = ["Workload", "all_workloads"]

_QUALITIES = ("fast", "exact")


@dataclass(frozen=True)
class Workload:
    """Contenders that do the same work.

    Attributes:
        name: for --only.
        title: for tables.
        contenders: in the order of the table; ours have a name that begins with "ours".
        comparisons: pairs of names, ours first.
    """

    name: str
    title: str
    contenders: tuple[Contender, ...]
    comparisons: tuple[tuple[str, str], ...]

    def without_dali(self) -> Workload:
        """What remains where DALI is missing."""
        contenders = tuple(contender for contender in self.contenders if not contender.dali)
        kept = {contender.name for contender in contenders}
        pairs = tuple((ours, theirs) for ours, theirs in self.comparisons if theirs in kept)
        return Workload(self.name, self.title, contenders, pairs)


def all_workloads(photographs: Path) -> Sequence[Workload]:
    """The three of them; `photographs` is a folder of JPEGs."""
    return (_cifar(), _imagenet(str(photographs)), _randaugment(str(photographs)))


def _cifar() -> Workload:
    make = Contender.tensorflow
    contenders = (
        make("published", "published graph, image by image", 2, "published", "image_by_image"),
        make("keras", "Keras layers, whole batches", 6, "published", "keras_batches"),
        make("tfa", "TensorFlow Addons, whole batches", 6, "published", "tfa_batches"),
        make("ours", "cifar_heavy", 32, "published", "ours"),
    )
    pairs = tuple(("ours", peer.name) for peer in contenders[:-1])
    return Workload("cifar", "A: dilation, blur, flip, rotation, zoom of 32x32", contenders, pairs)


def _imagenet(folder: str) -> Workload:
    make = Contender.tensorflow
    contenders = (
        *(make(f"common-{dct}", f"common graph, {dct}", 3, "imagenet", "common", folder=folder, dct=dct) for dct in _QUALITIES),
        make(
            "common-own-sampler",
            "common graph with its own sampler, exact",
            3,
            "imagenet",
            "common",
            folder=folder,
            dct="exact",
            even="height",
        ),
        *(
            Contender(
                f"dali-{dtype}-{dct}",
                f"DALI CPU, {dtype}, {dct}",
                3,
                ("-m", "augmentation.dali_peer", folder, "--dct", dct, "--dtype", dtype),
                dali=True,
            )
            for dtype in ("float32", "uint8")
            for dct in _QUALITIES
        ),
        *(make(f"ours-{dct}", f"imagenet_train, {dct}", 5, "imagenet", "ours", folder=folder, dct=dct) for dct in _QUALITIES),
        *(
            make(f"limit-{dct}", f"decoding alone, {dct}", 6, "imagenet", "decode_only", folder=folder, dct=dct)
            for dct in _QUALITIES
        ),
    )
    pairs = tuple(
        (f"ours-{dct}", f"{peer}-{dct}") for dct in _QUALITIES for peer in ("common", "dali-float32", "dali-uint8", "limit")
    )
    # what a user changes from: TensorFlow's own default quality
    return Workload(
        "imagenet",
        "C: JPEG to 224x224, random-resized crop",
        contenders,
        (*pairs, ("ours-fast", "common-exact"), ("ours-fast", "common-own-sampler")),
    )


def _randaugment(folder: str) -> Workload:
    make = Contender.tensorflow
    contenders = (
        make("reference", "tf.image and tfa.image, image by image, nearest", 4, "randaugment", "image_by_image", folder=folder),
        *(
            make(f"ours-{way}", f"RandAugment, {way}", batches, "randaugment", "ours", folder=folder, interpolation=way)
            for way, batches in (("nearest", 16), ("bilinear", 16))
        ),
    )
    pairs = (("ours-nearest", "reference"), ("ours-bilinear", "reference"))
    return Workload("randaugment", "RandAugment, 2 of 14 transforms on 224x224", contenders, pairs)
