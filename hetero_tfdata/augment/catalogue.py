"""Every operation once, with arguments that show: what the conformance suite, the gallery and the cost table walk through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hetero_tfdata import augment
from hetero_tfdata.augment.op import Op

__all__ = ["CATALOGUE", "Entry"]


@dataclass(frozen=True)
class Entry:
    """An operation of the catalogue.

    Attributes:
        make: the operation at a strength of 1 (mild), 2 (usual) or 3 (strong).
        labels: whether it needs float one-hot labels [B, K].
        channels: of the images to show it on.
    """

    make: Callable[[int], Op]
    labels: bool = False
    channels: int = 3

    @property
    def name(self) -> str:
        """The operation's name."""
        return type(self.make(2)).__name__


CATALOGUE: tuple[Entry, ...] = (
    Entry(lambda strength: augment.RandomFlip(("horizontal", "vertical", "horizontal_and_vertical")[strength - 1])),
    Entry(lambda strength: augment.RandomRotation(0.05 * strength)),
    Entry(lambda strength: augment.RandomZoom(0.15 * strength)),
    Entry(lambda strength: augment.RandomTranslation(0.1 * strength, 0.1 * strength)),
    Entry(lambda strength: augment.RandomShear(0.15 * strength, 0.05 * strength)),
    Entry(lambda strength: augment.CenterCrop(32 - 4 * strength, 32 - 4 * strength)),
    Entry(lambda strength: augment.Pad(4 * strength, mode=("constant", "reflect", "symmetric")[strength - 1])),
    Entry(lambda strength: augment.Resize(12 * strength, 16 * strength)),
    Entry(lambda strength: augment.RandomResizedCrop(24, 24, area=(0.5 / strength, 1.0))),
    Entry(lambda strength: augment.RandomErasing(area=(0.05 * strength, 0.1 * strength))),
    Entry(lambda strength: augment.Dilation(2 * strength + 1)),
    Entry(lambda strength: augment.Erosion(2 * strength + 1)),
    Entry(lambda strength: augment.GaussianBlur(11, sigma=0.8 * strength)),
    Entry(lambda strength: augment.GaussianBlur(11, sigma=(0.1, 1.0 * strength))),
    Entry(lambda strength: augment.MeanBlur(2 * strength + 1)),
)
