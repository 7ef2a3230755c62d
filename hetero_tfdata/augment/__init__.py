"""Augmentation graphs on whole batches of uint8 images: an order of magnitude less CPU than image by image in float32.

chain = augment.Chain([augment.RandomFlip("horizontal"), augment.RandomRotation(0.1), augment.GaussianBlur(11, sigma=0.8)])
dataset = dataset.batch(1024).map(chain)
"""

from hetero_tfdata.augment.chain import Chain, OneSampling, OneTable
from hetero_tfdata.augment.cropping import CenterCrop, Pad, RandomErasing, RandomResizedCrop, Resize
from hetero_tfdata.augment.filters import Dilation, Erosion, GaussianBlur, MeanBlur
from hetero_tfdata.augment.geometry import RandomFlip, RandomRotation, RandomShear, RandomTranslation, RandomZoom

__all__ = [
    "CenterCrop",
    "Chain",
    "Dilation",
    "Erosion",
    "GaussianBlur",
    "MeanBlur",
    "OneSampling",
    "OneTable",
    "Pad",
    "RandomErasing",
    "RandomFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
    "Resize",
]
