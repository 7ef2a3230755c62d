"""What an operation is: a frozen value that prints as it is written and turns a batch into a batch.

    image operations    uint8 [B, H, W, C] in [0, 255] -> uint8 [B, h, w, C]
    one sample          its random numbers come from its own seed (draws.py), so it looks the same in any batch, on any worker

Two kinds can be fused with their neighbours in a chain: an `AffineOp` says at which coordinates it samples, a `TableOp` which
value replaces which.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import tensorflow as tf

from hetero_tfdata.augment.boxes import move_boxes
from hetero_tfdata.augment.draws import Draw
from hetero_tfdata.augment.sampling import FILL_MODES, INTERPOLATIONS, compose, resample
from hetero_tfdata.errors import ConfigurationError, DatasetError

__all__ = ["AffineOp", "Batch", "Op", "TableOp", "compiled"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """The function compiled by XLA for the processor at hand (TensorFlow's own wheels stop at AVX), once for each shape.

    Python arguments must be hashable; each combination of them is compiled by itself.
    """
    return tf.function(function, jit_compile=True, autograph=False)


@dataclass(frozen=True)
class Batch:
    """What passes through a chain.

    Attributes:
        images: uint8 [B, H, W, C].
        seeds: uint64 [B], one a sample; see draws.py.
        labels: whatever came with the images; only mixing operations touch it.
        boxes: float32 [B, (n), 4], ragged: y_min, x_min, y_max, x_max in pixels; None where there are none.
        masks: uint8 [B, H, W, M] class indices; None where there are none.
    """

    images: tf.Tensor
    seeds: tf.Tensor
    labels: Any = None
    boxes: tf.RaggedTensor | None = None
    masks: tf.Tensor | None = None

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.images.shape[1])

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.images.shape[2])

    def replace(self, **changes: Any) -> Batch:
        """The batch with some attributes changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class Op:
    """The base of all operations. Subclasses are frozen dataclasses that check their fields in `__post_init__`.

    Class attributes:
        is_random: whether it draws random numbers; `training=False` leaves such operations out.
        channels: the numbers of channels that it takes.
    """

    is_random: ClassVar[bool] = False
    channels: ClassVar[tuple[int, ...]] = (1, 3)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Turns a batch into a batch; `draw` is this operation's own source of random numbers."""
        raise NotImplementedError

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the images it makes."""
        return height, width

    @property
    def output_dtype(self) -> tf.DType:
        """Of the images it makes. Nothing follows an operation that makes anything but uint8."""
        return tf.uint8

    def check(self, images: tf.Tensor) -> None:
        """Raises DatasetError if the images are none that this operation takes; called when a chain is traced."""
        self.require(
            images.dtype == tf.uint8, "images", "uint8 [B, H, W, C]", f"{images.dtype.name} {images.shape}", error=DatasetError
        )
        shape = images.shape
        known = shape.rank == 4 and None not in shape[1:]
        self.require(known, "images", "uint8 [B, H, W, C] with static H, W and C", f"shape {shape}", error=DatasetError)
        expected = " or ".join(map(str, self.channels))
        self.require(shape[3] in self.channels, "images", f"{expected} channels", f"{shape[3]}", error=DatasetError)

    def require(
        self, condition: bool, argument: str, expected: str, got: Any, *, error: type[Exception] = ConfigurationError
    ) -> None:
        """Raises an error that names operation, argument, what was expected and what came, unless the condition holds."""
        if not condition:
            raise error(f"{type(self).__name__}: {argument}: expected {expected}, got {got}")

    def require_probability(self, argument: str, value: float) -> None:
        """The same for a probability."""
        self.require(_is_number(value) and 0.0 <= value <= 1.0, argument, "a probability from 0 to 1", repr(value))

    def require_range(self, argument: str, value: float, low: float, high: float) -> None:
        """The same for a number from low to high."""
        self.require(_is_number(value) and low <= value <= high, argument, f"a number from {low:g} to {high:g}", repr(value))

    def __repr__(self) -> str:
        """As one would write it: fields that have their default are left out."""
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if field.repr and getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, repr=False)
class AffineOp(Op):
    """Samples the images at other coordinates. Neighbours in a chain with the same fill and interpolation sample once.

    Attributes:
        fill_mode: what lies outside the image: "constant" (fill_value), "reflect" (d c b a | a b c d | d c b a), "nearest".
        fill_value: 0 to 255.
        interpolation: "bilinear" or "nearest".
    """

    fill_mode: str = dataclasses.field(default="constant", kw_only=True)
    fill_value: int = dataclasses.field(default=0, kw_only=True)
    interpolation: str = dataclasses.field(default="bilinear", kw_only=True)

    def __post_init__(self) -> None:
        self.require(self.fill_mode in FILL_MODES, "fill_mode", f"one of {', '.join(FILL_MODES)}", repr(self.fill_mode))
        self.require_range("fill_value", self.fill_value, 0, 255)
        self.require(
            self.interpolation in INTERPOLATIONS,
            "interpolation",
            f"one of {', '.join(INTERPOLATIONS)}",
            repr(self.interpolation),
        )

    def transforms(self, draw: Draw, height: int, width: int) -> tf.Tensor:
        """float32 [B, 8], from output to input pixel coordinates (x, y), as ImageProjectiveTransformV3 takes them."""
        raise NotImplementedError

    @property
    def sampler(self) -> tuple[str, int, str]:
        """What two operations must agree on to sample once."""
        return self.fill_mode, self.fill_value, self.interpolation

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Samples images and masks (masks at the nearest pixel), moves boxes."""
        return sample(batch, (self,), (draw,))


@dataclass(frozen=True, repr=False)
class TableOp(Op):
    """Replaces each value by another. Neighbouring tables in a chain become one, with no result changed."""

    def table(self, draw: Draw) -> tf.Tensor:
        """uint8 [B or 1, 256]: what replaces the values 0 to 255 of each sample."""
        raise NotImplementedError

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Looks every value up."""
        return batch.replace(images=look_up(batch.images, self.table(draw)))


def look_up(images: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """uint8 [B, H, W, C] by a table uint8 [B or 1, 256] -> uint8, the same shape."""
    return from_rows(_look_up(to_rows(images), table), images)


@compiled
def _look_up(rows: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    # XLA makes vector code of a gather of 32-bit words, not of one of bytes: 57 us instead of 109 for 224x224x3 (one core)
    flat = tf.reshape(tf.cast(table, tf.int32), [-1])
    # of the size at hand: tf.function relaxes a static one that it has seen with other values
    starts = tf.range(tf.shape(rows)[0]) * (256 * tf.minimum(tf.shape(table)[0] - 1, 1))
    return tf.cast(tf.gather(flat, tf.cast(rows, tf.int32) + tf.reshape(starts, [-1, 1, 1])), tf.uint8)


def to_rows(images: tf.Tensor) -> tf.Tensor:
    """[B, H, W, C] -> [B, H, W * C], to be called outside of a compiled function.

    XLA's loops run over the innermost axis: over three channels they stay scalar, over a whole row they become vector code.
    """
    _, height, width, channels = images.shape
    return tf.reshape(images, [-1, height, width * channels])


def from_rows(rows: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """[B, H, W * C] -> the shape of `images`."""
    return tf.reshape(rows, [-1, *images.shape[1:]])


def sample(batch: Batch, ops: tuple[AffineOp, ...], draws: Sequence[Draw]) -> Batch:
    """One affine operation after the other as one sampling of images (and masks, at the nearest pixel); boxes move along."""
    images, transforms = _sampler_of(ops)(batch.images, *(draw.seeds for draw in draws))
    masks = None if batch.masks is None else sample_masks(batch.masks, transforms, ops[0].fill_mode)
    boxes = None if batch.boxes is None else move_boxes(batch.boxes, transforms, batch.height, batch.width)
    return batch.replace(images=images, masks=masks, boxes=boxes)


@functools.lru_cache(maxsize=256)
def _sampler_of(ops: tuple[AffineOp, ...]) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """From images and the seeds of each operation's draw, uint64 [B], to sampled images and transforms, float32 [B, 8].

    All in one compiled function, for each that is launched costs as much as sampling ten small images.
    """
    fill_mode, fill_value, interpolation = ops[0].sampler

    @compiled
    def sampled(images: tf.Tensor, *seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        transforms = None
        for op, one in zip(ops, seeds, strict=True):
            then = op.transforms(Draw.of(one), images.shape[1], images.shape[2])
            transforms = then if transforms is None else compose(transforms, then)
        assert transforms is not None
        sampled = resample(images, transforms, fill_mode=fill_mode, fill_value=fill_value, interpolation=interpolation)
        return sampled, transforms

    return sampled


@compiled
def sample_masks(masks: tf.Tensor, transforms: tf.Tensor, fill_mode: str) -> tf.Tensor:
    """uint8 [B, H, W, M] at the nearest pixel of the transformed coordinates; 0 outside."""
    return resample(masks, transforms, fill_mode=fill_mode, fill_value=0, interpolation="nearest")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_pair(value: float | Sequence[float]) -> tuple[float, float]:
    """x -> (-x, x); a pair stays."""
    if isinstance(value, (int, float)):
        return -float(value), float(value)
    low, high = value
    return float(low), float(high)
