"""Operations one after the other, fused where neighbours can share the work."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from hetero_tfdata.augment.draws import Draw, sample_seeds
from hetero_tfdata.augment.op import AffineOp, Batch, Op, TableOp, look_up, sample
from hetero_tfdata.errors import ConfigurationError, DatasetError

if TYPE_CHECKING:
    from hetero_tfdata.augment.placement import Plan, Split

__all__ = ["Chain", "OneSampling", "OneTable", "flat"]


@dataclass(frozen=True, repr=False)
class OneSampling(AffineOp):
    """Neighbouring affine operations as one sampling of the pixels; a chain makes it by itself.

    Equal, within rounding, to a single bilinear sampling at the composed coordinates. That is sharper than sampling once for
    each operation, which blurs each time; and what one operation moves out of the image another can still bring back.
    """

    ops: tuple[AffineOp, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "ops", tuple(self.ops))

    def apply_each(self, batch: Batch, draws: Sequence[Draw]) -> Batch:
        """Samples once, with the random numbers of each of its operations."""
        return sample(batch, self.ops, draws)

    def __repr__(self) -> str:
        return f"OneSampling(ops=[{', '.join(map(repr, self.ops))}])"


@dataclass(frozen=True, repr=False)
class OneTable(TableOp):
    """Neighbouring table operations as one table, the same result as one after the other; a chain makes it by itself."""

    ops: tuple[TableOp, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "ops", tuple(self.ops))

    def apply_each(self, batch: Batch, draws: Sequence[Draw]) -> Batch:
        """Looks each table up in the next, and the values in the result."""
        result = None
        for op, draw in zip(self.ops, draws, strict=True):
            one = op.table(draw)
            result = one if result is None else _table_of_tables(result, one)
        return batch.replace(images=look_up(batch.images, result))

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
        positions: which random numbers each operation draws; by default its place in the chain. A chain whose operations
            were moved keeps those of the chain as it was written.

    Raises:
        ConfigurationError: (when built) something is no operation, or there are not as many positions as operations.
        DatasetError: (when traced) the element has not the shape, dtype or component that an operation needs.
    """

    ops: Sequence[Op]
    seed: int | None = None
    key: str | int | None = None
    epoch: str | int | None = None
    positions: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for op in self.ops:
            if not isinstance(op, Op):
                raise ConfigurationError(f"Chain: ops: expected operations such as RandomFlip('horizontal'), got {op!r}")
        every = flat(self.ops)
        for op in every[:-1]:
            if op.output_dtype != tf.uint8:
                raise ConfigurationError(f"Chain: ops: expected {op!r} to be the last, as it makes no uint8; got one behind it")
        positions = tuple(range(len(every)) if self.positions is None else self.positions)
        if len(positions) != len(every):
            raise ConfigurationError(f"Chain: positions: expected {len(every)}, one an operation, got {len(positions)}")
        object.__setattr__(self, "ops", tuple(_fused(every)))
        object.__setattr__(self, "positions", None if positions == tuple(range(len(every))) else positions)

    # nothing here branches on tensors, and the autograph of TensorFlow 2.12 knows no zip(strict=True)
    @tf.autograph.experimental.do_not_convert
    def __call__(self, *element: Any) -> Any:
        """Runs the chain on one batch."""
        entries = element[0] if isinstance(element[0], Mapping) else {}
        images = tf.convert_to_tensor(entries["images"] if entries else element[0])
        for op in self.ops[:1]:
            op.check(images)
        labels = element[1] if len(element) > 1 else None
        batch = Batch(images, self._seeds(images, entries, element), labels, entries.get("boxes"), entries.get("masks"))
        draws = iter([Draw(batch.seeds, position) for position in self.all_positions])
        for op in self.ops:
            op.check(batch.images)
            if isinstance(op, (OneSampling, OneTable)):
                batch = op.apply_each(batch, [next(draws) for _ in op.ops])
            else:
                batch = op.apply(batch, next(draws))
        first: Any = batch.images
        if entries:
            changed = {"images": batch.images, "boxes": batch.boxes, "masks": batch.masks}
            first = {**entries, **{name: value for name, value in changed.items() if name in entries}}
        return first if len(element) == 1 else (first, batch.labels, *element[2:])

    def plan(self, height: int, width: int, channels: int = 3) -> Plan:
        """The chain in the order in which it costs least, for images of that size; see placement.py. Same pixels."""
        from hetero_tfdata.augment import placement

        return placement.plan(self, height, width, channels)

    def split(self, height: int, width: int, channels: int = 3) -> Split:
        """The part for the CPU hosts and the part for the accelerator, with predicted bytes and CPU; see placement.py."""
        from hetero_tfdata.augment import placement

        return placement.split(self, height, width, channels)

    def deterministic(self) -> Chain:
        """The chain without its random operations, for evaluation."""
        kept = [(op, place) for op, place in zip(flat(self.ops), self.all_positions, strict=True) if not op.is_random]
        return dataclasses.replace(self, ops=[op for op, _ in kept], positions=[place for _, place in kept])

    @property
    def all_positions(self) -> tuple[int, ...]:
        """`positions`, spelt out."""
        return tuple(range(len(flat(self.ops)))) if self.positions is None else tuple(self.positions)

    def _seeds(self, images: tf.Tensor, entries: Mapping[str, Any], element: tuple[Any, ...]) -> tf.Tensor:
        count = tf.shape(images)[0]
        if self.seed is None:
            return sample_seeds(count, seed=None)
        if self.key is not None:
            key = self._component(self.key, "key", entries, element)
        else:
            key = tf.bitcast(tf.fingerprint(tf.reshape(images, [count, -1])), tf.uint64)
        epoch = 0 if self.epoch is None else self._component(self.epoch, "epoch", entries, element)
        return sample_seeds(count, seed=self.seed, key=tf.convert_to_tensor(key), epoch=epoch)

    def _component(self, name: str | int, argument: str, entries: Mapping[str, Any], element: tuple[Any, ...]) -> Any:
        if isinstance(name, str) and name in entries:
            return entries[name]
        if isinstance(name, int) and 0 < name < len(element):
            return element[name]
        present = [*entries, *(str(number) for number in range(1, len(element)))]
        raise DatasetError(f"Chain: {argument}: expected a component of the element ({', '.join(present)}), got {name!r}")

    def __repr__(self) -> str:
        names = ("seed", "key", "epoch", "positions")
        options = [f"{name}={getattr(self, name)!r}" for name in names if getattr(self, name) is not None]
        return f"Chain({', '.join(['[' + ', '.join(map(repr, self.ops)) + ']', *options])})"


def flat(ops: Iterable[Op]) -> list[Op]:
    """The operations as they were written, fused ones taken apart."""
    every: list[Op] = []
    for op in ops:
        every.extend(op.ops if isinstance(op, (OneSampling, OneTable)) else [op])
    return every


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
