"""Stateless random numbers, one stream a sample.

TensorFlow's stateless functions take one seed for a whole tensor, so a sample's numbers would depend on its place in the batch.
Here each sample brings its own 64-bit seed, and a number is a hash of (seed, operation, draw): the same sample gets the same
numbers whichever worker makes it, in whatever batch.

The hash is SplitMix64's output function (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014),
which passes BigCrush when it hashes a counter. It is no cryptography.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["Draw", "mix", "sample_seeds"]

_GAMMA = 0x9E3779B97F4A7C15
_SHIFTS = (30, 27, 31)
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_MASK = 0xFFFFFFFFFFFFFFFF


def mix(*words: Any) -> tf.Tensor:
    """Hashes 64-bit words into one, element by element.

    Args:
        words: uint64 tensors that broadcast, or Python integers; at least one tensor or integer.

    Returns:
        uint64, the broadcast shape; every bit depends on every bit of every word.
    """
    # shared, and what is known computed here: each operation costs where a graph runs, and a graph hashes often
    shifts = [tf.constant(bits, tf.uint64) for bits in _SHIFTS]
    multipliers = [tf.constant(factor, tf.uint64) for factor in _MULTIPLIERS]
    state: Any = 0
    for word in words:
        known = _GAMMA + sum(term for term in (state, word) if isinstance(term, int)) & _MASK
        tensors = [term for term in (state, word) if not isinstance(term, int)]
        begun = sum(tensors, tf.constant(known, tf.uint64)) if tensors else known
        state = _finish(begun, shifts, multipliers) if tensors else _finish_known(begun)
    return tf.constant(state, tf.uint64) if isinstance(state, int) else state


def sample_seeds(batch_size: Any, *, seed: int | None, key: tf.Tensor | None = None, epoch: tf.Tensor | int = 0) -> tf.Tensor:
    """One seed a sample, from (seed, epoch, key).

    Args:
        batch_size: number of samples, int or scalar tensor.
        seed: the job's; None: every call draws other seeds, on every worker and in every run.
        key: [B] integers or strings that name the samples; required with a seed.
        epoch: the source's pass number, a scalar or [B].

    Returns:
        uint64 [B].
    """
    if seed is None:
        # A stateful operation with no seed of its own: TensorFlow seeds it anew in each process. (`tf.random.set_seed` makes it
        # repeat, on every worker alike; the preflight of distribute() warns of that.)
        bits = tf.random.uniform([batch_size, 2], minval=tf.int32.min, maxval=tf.int32.max, dtype=tf.int32)
        return mix(tf.bitcast(bits, tf.uint64))
    assert key is not None
    if key.dtype == tf.string:
        key = tf.bitcast(tf.fingerprint(key), tf.uint64)
    passes = epoch & _MASK if isinstance(epoch, int) else tf.cast(epoch, tf.uint64)
    return mix(seed & _MASK, passes, tf.cast(key, tf.uint64))


class Draw:
    """The random numbers of one operation for a batch of samples. Each call draws new ones; the order of calls matters.

    Args:
        seeds: uint64 [B], one a sample.
        salt: tells operations of one chain apart.
    """

    def __init__(self, seeds: tf.Tensor, salt: int) -> None:
        self._seeds = mix(seeds, salt)
        self._calls = 0

    @classmethod
    def of(cls, seeds: tf.Tensor) -> Draw:
        """The source whose `seeds` these are, for another function."""
        draw = cls.__new__(cls)
        draw._seeds, draw._calls = seeds, 0
        return draw

    @property
    def seeds(self) -> tf.Tensor:
        """uint64 [B], the samples' and the salt's; see `of`."""
        return self._seeds

    def fork(self, salt: int) -> Draw:
        """An independent source, for an operation inside this one."""
        return Draw(self._seeds, salt + 1)

    def bits(self, shape: Sequence[int] = ()) -> tf.Tensor:
        """uint64 [B, *shape]."""
        self._calls += 1
        count = 1
        for size in shape:
            count *= size
        seeds = tf.reshape(self._seeds, [-1] + [1] * len(shape))
        counter = tf.constant(np.arange(count), tf.uint64, [1, *shape])
        return mix(seeds + tf.constant(self._calls << 32, tf.uint64), counter) if shape else mix(seeds, self._calls << 32)

    def uniform(self, low: float | tf.Tensor = 0.0, high: float | tf.Tensor = 1.0, shape: Sequence[int] = ()) -> tf.Tensor:
        """float32 [B, *shape] in [low, high): multiples of 2**-24 of the width."""
        # 24 bits fit int32, which every backend casts to float32 exactly
        top = tf.cast(tf.bitwise.right_shift(self.bits(shape), tf.constant(40, tf.uint64)), tf.int32)
        return tf.cast(top, tf.float32) * ((high - low) * 2.0**-24) + low

    def normal(self, shape: Sequence[int] = ()) -> tf.Tensor:
        """float32 [B, *shape], mean 0, deviation 1 (Box and Muller, 1958)."""
        radius = tf.sqrt(-2.0 * tf.math.log(1.0 - self.uniform(shape=shape)))
        return radius * tf.cos(2.0 * 3.141592653589793 * self.uniform(shape=shape))

    def integers(self, count: int, shape: Sequence[int] = ()) -> tf.Tensor:
        """int32 [B, *shape] in 0 to count - 1; biased by less than count / 2**24."""
        return tf.minimum(tf.cast(self.uniform(0.0, float(count), shape), tf.int32), count - 1)

    def happens(self, probability: float) -> tf.Tensor:
        """bool [B]: true with that probability."""
        return self.uniform() < probability


def _finish(state: tf.Tensor, shifts: Sequence[tf.Tensor], multipliers: Sequence[tf.Tensor]) -> tf.Tensor:
    state = (state ^ tf.bitwise.right_shift(state, shifts[0])) * multipliers[0]
    state = (state ^ tf.bitwise.right_shift(state, shifts[1])) * multipliers[1]
    return state ^ tf.bitwise.right_shift(state, shifts[2])


def _finish_known(state: int) -> int:
    state = (state ^ state >> _SHIFTS[0]) * _MULTIPLIERS[0] & _MASK
    state = (state ^ state >> _SHIFTS[1]) * _MULTIPLIERS[1] & _MASK
    return state ^ state >> _SHIFTS[2]
