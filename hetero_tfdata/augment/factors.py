"""How strongly an operation of colour works: one number for all samples, or one drawn for each."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from hetero_tfdata.augment.draws import Draw
from hetero_tfdata.augment.op import Op

__all__ = ["Factor", "deltas", "ends", "factors", "require_delta", "require_factor"]

Factor = Any  # a number, or a pair of them in order


def ends(value: Factor) -> tuple[float, float]:
    """0.2 -> (0.8, 1.2), never below 0; a pair stays."""
    if isinstance(value, (int, float)):
        return max(0.0, 1.0 - value), 1.0 + value
    low, high = value
    return float(low), float(high)


def factors(value: Factor, is_random: bool, draw: Draw) -> tf.Tensor:
    """float32 [B], or [1] where nothing is drawn."""
    return draw.uniform(*ends(value)) if is_random else tf.constant([value], tf.float32)


def deltas(value: Factor, is_random: bool, draw: Draw) -> tf.Tensor:
    """The same for a difference around 0."""
    low, high = (-value, value) if isinstance(value, (int, float)) else value
    return draw.uniform(float(low), float(high)) if is_random else tf.constant([value], tf.float32)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value)) and value[0] <= value[1]


def require_factor(op: Op, argument: str, value: Factor, above_zero: bool = False) -> None:
    """Raises ConfigurationError unless it is a number, or for a random operation a number or a pair in order, large enough."""
    least = "above 0" if above_zero else "of at least 0"
    if not op.is_random:
        correct = _is_number(value) and (value > 0 if above_zero else value >= 0)
        op.require(correct, argument, f"a number {least}", repr(value))
        return
    low = value if _is_number(value) else value[0] if _is_pair(value) else -1.0
    if above_zero and _is_number(value):
        low = ends(value)[0] if value >= 0 else -1.0
    correct = low > 0 if above_zero else low >= 0
    op.require(
        correct,
        argument,
        f"a number of at least 0{' and below 1' if above_zero else ''}, or a pair {least} in order",
        repr(value),
    )


def require_delta(op: Op, argument: str, value: Factor) -> None:
    """The same for parts of a turn from -0.5 to 0.5."""
    if not op.is_random:
        op.require_range(argument, value, -0.5, 0.5)
        return
    low, high = (-value, value) if _is_number(value) else value if _is_pair(value) else (1.0, -1.0)
    correct = -0.5 <= low <= high <= 0.5
    op.require(correct, argument, "a part of a turn from 0 to 0.5, or a pair from -0.5 to 0.5 in order", repr(value))
