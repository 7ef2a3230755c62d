"""Operations one after the other, fused where neighbours can share the work."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from hetero_tfdata.augment.draws import Draw, sample_seeds
from hetero_tfdata.augment.op import AffineOp, Batch, Op, TableOp, _sample, compose
from hetero_tfdata.errors import DatasetError

__all__ = ["Chain", "OneSampling", "OneTable"]


@dataclass(frozen=True, repr=False)
class OneSampling(AffineOp):
    """Neighbouring affine operations as one sampling of the pixels.

    Equal, within rounding, to a single bilinear sampling at the composed coordinates. That is sharper than sampling once for
    each operation, which blurs each time; and what one operation moves out of the image another can still bring back.
    """

    ops: tuple[AffineOp, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "ops", tuple(self.ops))

    @property
    def is_random(self) -> bool:  # type: ignore[override]
        """Whether one of them is."""
        return any(op.is_random for op in self.ops)

    def transforms(self, draw: Draw, height: int, width: int) -> tf.Tensor:
        """The product of all."""
        result = None
        for number, op in enumerate(self.ops):
            one = op.transforms(draw.fork(number), height, width)
            result = one if result is None else compose(result, one)
        return result

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Samples once."""
        return _sample(batch, self.transforms(draw, batch.height, batch.width), self.ops[0].sampler)

    def __repr__(self) -> str:
        return f"OneSampling(ops=[{', '.join(map(repr, self.ops))}])"


@dataclass(frozen=True, repr=False)
class OneTable(TableOp):
    """Neighbouring table operations as one table: the same result as one after the other."""

    ops: tuple[TableOp, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "ops", tuple(self.ops))

    @property
    def is_random(self) -> bool:  # type: ignore[override]
        """Whether one of them is."""
        return any(op.is_random for op in self.ops)

    def table(self, draw: Draw) -> tf.Tensor:
        """Each table looked up in the next."""
        result = None
        for number, op in enumerate(self.ops):
            one = op.table(draw.fork(number))
            result = one if result is None else _table_of_tables(result, one)
        return result

    def __repr__(self) -> str:
        return f"OneTable(ops=[{', '.join(map(repr, self.ops))}])"


def _table_of_tables(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    samples = tf.maximum(tf.shape(first)[0], tf.shape(second)[0])
    first, second = (tf.broadcast_to(table, [samples, 256]) for table in (first, second))
    return tf.gather(second, tf.cast(first, tf.int32), batch_dims=1)


@dataclass(frozen=True, repr=False)
class Chain:
    """Operations one after the other, for `dataset.batch(n).map(chain)`.

    Takes and returns images alone, (images, labels), a dict with `images` and perhaps `boxes` (float32 [B, (n), 4], ragged:
    y_min, x_min, y_max, x_max in pixels) and `masks` (uint8 [B, H, W, M]), or (dict, labels); other entries of the dict pass
    through. What a chain does to a sample follows from (seed, epoch, key) alone.

    Attributes:
        ops: the operations. Neighbouring affine operations are fused to one sampling, neighbouring tables to one table; the
            repr shows what runs.
        seed: the job's. None: other random numbers in every run and on every worker.
        key: which component names a sample: an entry of the dict, or a number: 1 is the second component of the element, and
            so on. It is of integers or strings, unique in the dataset, and is passed through. None: a fingerprint of the
            sample's bytes, so samples that are equal to the byte are augmented equally.
        epoch: which component says the pass over the data, likewise; None: every pass is augmented alike if there is a seed.

    Raises:
        ConfigurationError: (when built) something is no operation, or a seed is no integer.
        DatasetError: (when traced) the element has not the shape, dtype or component that an operation needs.
    """

    ops: Sequence[Op]
    seed: int | None = None
    key: str | int | None = None
    epoch: str | int | None = None

    def __post_init__(self) -> None:
        for op in self.ops:
            if not isinstance(op, Op):
                from hetero_tfdata.errors import ConfigurationError

                raise ConfigurationError(f"Chain: ops: expected operations such as RandomFlip('horizontal'), got {op!r}")
        object.__setattr__(self, "ops", tuple(_fused(_flat(self.ops))))

    def __call__(self, *element: Any) -> Any:
        """Runs the chain on one batch."""
        images = element[0]["images"] if isinstance(element[0], Mapping) else element[0]
        extra = element[0] if isinstance(element[0], Mapping) else {}
        images = tf.convert_to_tensor(images)
        for op in self.ops[:1]:
            op.check(images)
        seeds = sample_seeds(
            tf.shape(images)[0],
            seed=self.seed,
            key=None if self.seed is None else self._key(images, extra, element),
            epoch=0 if self.epoch is None else self._component(self.epoch, "epoch", extra, element),
        )
        labels = element[1] if len(element) > 1 else None
        batch = Batch(images, seeds, labels, extra.get("boxes"), extra.get("masks"))
        for number, op in enumerate(self.ops):
            op.check(batch.images)
            batch = op.apply(batch, Draw(seeds, number))
        first: Any = batch.images
        if extra:
            changed = {"images": batch.images, "boxes": batch.boxes, "masks": batch.masks}
            first = {**extra, **{name: value for name, value in changed.items() if name in extra}}
        if len(element) == 1:
            return first
        return (first, batch.labels, *element[2:])

    def deterministic(self) -> Chain:
        """The chain without its random operations, for evaluation."""
        return dataclasses.replace(self, ops=[op for op in _flat(self.ops) if not op.is_random])

    def _key(self, images: tf.Tensor, extra: Mapping[str, Any], element: tuple[Any, ...]) -> tf.Tensor:
        if self.key is not None:
            return self._component(self.key, "key", extra, element)
        return tf.bitcast(tf.fingerprint(tf.reshape(images, [tf.shape(images)[0], -1])), tf.uint64)

    def _component(self, name: str | int, argument: str, extra: Mapping[str, Any], element: tuple[Any, ...]) -> Any:
        if isinstance(name, str) and name in extra:
            return extra[name]
        if isinstance(name, int) and 0 < name < len(element):
            return element[name]
        present = [*extra] or [f"{number}" for number in range(1, len(element))]
        raise DatasetError(f"Chain: {argument}: expected a component of the element ({', '.join(present)}), got {name!r}")

    def __repr__(self) -> str:
        options = [f"{name}={getattr(self, name)!r}" for name in ("seed", "key", "epoch") if getattr(self, name) is not None]
        return f"Chain({', '.join(['[' + ', '.join(map(repr, self.ops)) + ']', *options])})"


def _flat(ops: Iterable[Op]) -> list[Op]:
    flat: list[Op] = []
    for op in ops:
        flat.extend(op.ops if isinstance(op, (OneSampling, OneTable)) else [op])
    return flat


def _fused(ops: Sequence[Op]) -> list[Op]:
    fused: list[Op] = []
    for op in ops:
        last = fused[-1] if fused else None
        if isinstance(op, AffineOp) and isinstance(last, AffineOp) and _sampler(last) == op.sampler:
            group = last.ops if isinstance(last, OneSampling) else (last,)
            fused[-1] = OneSampling(ops=(*group, op))
        elif isinstance(op, TableOp) and isinstance(last, TableOp):
            tables = last.ops if isinstance(last, OneTable) else (last,)
            fused[-1] = OneTable(ops=(*tables, op))
        else:
            fused.append(op)
    return fused


def _sampler(op: AffineOp) -> tuple[str, int, str]:
    return op.ops[0].sampler if isinstance(op, OneSampling) else op.sampler
