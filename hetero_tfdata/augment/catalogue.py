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
        build: makes the operation from a strength, 1 (mild), 2 (usual) or 3 (strong), and the images' side in pixels.
        labels: whether it needs float one-hot labels [B, K].
        channels: of the images to show it on.
    """

    build: Callable[[int, int], Op]
    labels: bool = False
    channels: int = 3

    def make(self, strength: int, side: int = 32) -> Op:
        """The operation for square images of that side."""
        return self.build(strength, side)

    @property
    def name(self) -> str:
        """The operation's name."""
        return type(self.make(2)).__name__


CATALOGUE: tuple[Entry, ...] = (
    Entry(lambda strength, side: augment.RandomFlip(("horizontal", "vertical", "horizontal_and_vertical")[strength - 1])),
    Entry(lambda strength, side: augment.RandomRotation(0.05 * strength)),
    Entry(lambda strength, side: augment.RandomZoom(0.15 * strength)),
    Entry(lambda strength, side: augment.RandomTranslation(0.1 * strength, 0.1 * strength)),
    Entry(lambda strength, side: augment.RandomShear(0.15 * strength, 0.05 * strength)),
    Entry(lambda strength, side: augment.CenterCrop(side - side * strength // 8, side - side * strength // 8)),
    Entry(lambda strength, side: augment.Pad(side * strength // 8, mode=("constant", "reflect", "symmetric")[strength - 1])),
    Entry(lambda strength, side: augment.Resize(side * strength // 4, side * strength // 3)),
    Entry(lambda strength, side: augment.RandomResizedCrop(side, side, area=(0.5 / strength, 0.8 / strength))),
    Entry(lambda strength, side: augment.RandomErasing(area=(0.05 * strength, 0.1 * strength))),
    Entry(lambda strength, side: augment.Dilation(2 * strength + 1)),
    Entry(lambda strength, side: augment.Erosion(2 * strength + 1)),
    Entry(lambda strength, side: augment.GaussianBlur(11, sigma=0.8 * strength)),
    Entry(lambda strength, side: augment.GaussianBlur(11, sigma=(0.1, 1.0 * strength))),
    Entry(lambda strength, side: augment.MeanBlur(2 * strength + 1)),
    Entry(lambda strength, side: augment.Brightness(1 + 0.2 * strength)),
    Entry(lambda strength, side: augment.RandomBrightness(0.2 * strength)),
    Entry(lambda strength, side: augment.Contrast(1 + 0.3 * strength)),
    Entry(lambda strength, side: augment.RandomContrast(0.3 * strength)),
    Entry(lambda strength, side: augment.Saturation(1 + 0.5 * strength)),
    Entry(lambda strength, side: augment.RandomSaturation(0.3 * strength)),
    Entry(lambda strength, side: augment.Hue(0.1 * strength)),
    Entry(lambda strength, side: augment.RandomHue(0.1 * strength)),
    Entry(lambda strength, side: augment.ColorJitter(0.2 * strength, 0.2 * strength, 0.2 * strength, 0.05 * strength)),
    Entry(lambda strength, side: augment.Gamma(0.5 * strength + 0.25)),
    Entry(lambda strength, side: augment.RandomGamma((0.5 / strength, 1.5 * strength))),
    Entry(lambda strength, side: augment.Grayscale()),
    Entry(lambda strength, side: augment.RandomGrayscale(0.3 * strength)),
    Entry(lambda strength, side: augment.Invert()),
    Entry(lambda strength, side: augment.RandomInvert(0.25 * strength)),
    Entry(lambda strength, side: augment.Solarize(256 - 64 * strength)),
    Entry(lambda strength, side: augment.Posterize(5 - strength)),
    Entry(lambda strength, side: augment.Equalize()),
    Entry(lambda strength, side: augment.AutoContrast()),
    Entry(lambda strength, side: augment.Sharpness(1 + strength)),
    Entry(lambda strength, side: augment.RandomSharpness(0.3 * strength)),
    Entry(lambda strength, side: augment.RandomNoise(8 * strength)),
    Entry(lambda strength, side: augment.SaltAndPepper(0.02 * strength)),
    Entry(lambda strength, side: augment.MixUp(0.2 * strength), labels=True),
    Entry(lambda strength, side: augment.CutMix(0.5 * strength), labels=True),
    Entry(lambda strength, side: augment.RandAugment(magnitude=3.0 * strength)),
    Entry(lambda strength, side: augment.TrivialAugment()),
    Entry(lambda strength, side: augment.Normalize((0.5, 0.4, 0.3), 0.1 * strength)),
)
