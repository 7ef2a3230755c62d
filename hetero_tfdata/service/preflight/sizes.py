"""How many bytes of values a dataset's graph holds."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

__all__ = ["Constant", "held_bytes", "in_units", "product"]


@dataclass(frozen=True)
class Constant:
    """A value that travels with the graph: "float32 [1000, 300], 1.2 MB, in from_tensor_slices"."""

    size_bytes: int
    dtype: str
    shape: tuple[int, ...]
    where: str

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}, {in_units(self.size_bytes)}, in {self.where}"


def held_bytes(dataset: tf.data.Dataset) -> tuple[int, list[str]]:
    """How many bytes of arrays the graph will hold at least, and the largest of them, without writing the graph."""
    found: dict[int, Constant] = {}
    waiting, seen = [dataset], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        waiting += one._inputs()
        arrays = [("from_tensor_slices", tensor) for tensor in getattr(one, "_tensors", ())]
        for function in one._functions():
            arrays += [("a function", tensor) for tensor in function.function.captured_inputs]
        for where, tensor in arrays:
            if hasattr(tensor, "numpy") and tensor.dtype not in (tf.string, tf.variant, tf.resource):
                shape = tuple(tensor.shape)
                found[id(tensor)] = Constant(product(list(shape)) * tensor.dtype.size, tensor.dtype.name, shape, where)
    largest = sorted(found.values(), key=lambda constant: -constant.size_bytes)[:3]
    return sum(constant.size_bytes for constant in found.values()), [str(constant) for constant in largest]


def in_units(size_bytes: float) -> str:
    """A size with two or three digits: "1.2 MB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.3g} {unit}"
    return f"{size_bytes:.0f} bytes"


def product(numbers: list[int]) -> int:
    """Of no numbers 1: a scalar has one element."""
    total = 1
    for number in numbers:
        total *= number
    return total
