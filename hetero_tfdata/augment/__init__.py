"""Augmentation graphs on whole batches of uint8 images: an order of magnitude less CPU than image by image in float32.

chain = augment.Chain([augment.RandomFlip("horizontal"), augment.RandomRotation(0.1), augment.GaussianBlur(11, sigma=0.8)])
dataset = dataset.batch(1024).map(chain)
"""

from hetero_tfdata.augment import presets
from hetero_tfdata.augment.addons import Addons, Integers, Uniform
from hetero_tfdata.augment.chain import Chain, OneSampling, OneTable
from hetero_tfdata.augment.color import (
    AutoContrast,
    ColorJitter,
    Contrast,
    Equalize,
    Grayscale,
    Hue,
    RandomContrast,
    RandomGrayscale,
    RandomHue,
    RandomSaturation,
    RandomSharpness,
    Saturation,
    Sharpness,
)
from hetero_tfdata.augment.cropping import CenterCrop, Pad, RandomErasing, RandomResizedCrop, Resize
from hetero_tfdata.augment.filters import Dilation, Erosion, GaussianBlur, MeanBlur
from hetero_tfdata.augment.geometry import RandomFlip, RandomRotation, RandomShear, RandomTranslation, RandomZoom
from hetero_tfdata.augment.mix import CutMix, MixUp
from hetero_tfdata.augment.noise import RandomNoise, SaltAndPepper
from hetero_tfdata.augment.normalization import Normalize, normalize
from hetero_tfdata.augment.policies import RandAugment, TrivialAugment
from hetero_tfdata.augment.tables import (
    Brightness,
    Gamma,
    Invert,
    Posterize,
    RandomBrightness,
    RandomGamma,
    RandomInvert,
    Solarize,
)

__all__ = [
    "Addons",
    "AutoContrast",
    "Brightness",
    "CenterCrop",
    "Chain",
    "ColorJitter",
    "Contrast",
    "CutMix",
    "Dilation",
    "Equalize",
    "Erosion",
    "Gamma",
    "GaussianBlur",
    "Grayscale",
    "Hue",
    "Integers",
    "Invert",
    "MeanBlur",
    "MixUp",
    "Normalize",
    "OneSampling",
    "OneTable",
    "Pad",
    "Posterize",
    "RandAugment",
    "RandomBrightness",
    "RandomContrast",
    "RandomErasing",
    "RandomFlip",
    "RandomGamma",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomNoise",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
    "Resize",
    "SaltAndPepper",
    "Saturation",
    "Sharpness",
    "Solarize",
    "TrivialAugment",
    "Uniform",
    "normalize",
    "presets",
]
