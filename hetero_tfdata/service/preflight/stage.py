"""One dataset of a chain, as the user wrote it: "take(10)", "map(decode)"."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from hetero_tfdata.service.preflight.sizes import product

__all__ = ["Stage"]

_METHODS = {
    "AssertCardinality": "assert_cardinality",
    "CSV": "CsvDataset",
    "DataService": "distribute",
    "DirectedInterleave": "sample_from_datasets",
    "LegacyParallelInterleave": "interleave",
    "List": "from_list",
    "Load": "Dataset.load",
    "MapAndBatch": "map",
    "PaddedBatch": "padded_batch",
    "ParallelBatch": "batch",
    "ParallelFilter": "filter",
    "ParallelInterleave": "interleave",
    "ParallelMap": "map",
    "Random": "Dataset.random",
    "Range": "Dataset.range",
    "SparseTensorSlice": "from_tensor_slices",
    "Sql": "SqlDataset",
    "Tensor": "from_tensors",
    "TensorSlice": "from_tensor_slices",
}


@dataclass(eq=False)
class Stage:
    """One dataset of the chain.

    Attributes:
        kind: TensorFlow's operation without "Dataset" and version: "Take", "ParallelMap".
        node: its NodeDef.
        inputs: the datasets it reads, in the order of its arguments.
        functions: names of the functions it calls, and of those that they call.
        chooses: it does nothing but choose among other datasets (for sample_from_datasets, choose_from_datasets).
    """

    kind: str
    node: Any
    inputs: list[Stage]
    functions: list[str]
    arguments: dict[str, list[str]]
    readers: list[Stage] = field(default_factory=list)
    chooses: bool = False

    @property
    def method(self) -> str:
        """The method the user called."""
        return _METHODS.get(self.kind) or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.kind).lower()

    def call(self, *arguments: object) -> str:
        """The call as the user wrote it: "take(10)", "map(decode)"."""
        if arguments or not self.functions:
            return f"{self.method}({', '.join(str(argument) for argument in arguments)})"
        name = re.match(rf"__inference_Dataset_{self.method}_(\w+?)_\d+$", self.functions[0])
        return f"{self.method}({name.group(1).removeprefix('lambda') or 'lambda'})" if name else f"{self.method}()"

    def upstream(self) -> Iterator[Stage]:
        """What it reads, directly or not."""
        return _walk(self.inputs, lambda stage: stage.inputs)

    def downstream(self) -> Iterator[Stage]:
        """What reads it, directly or not."""
        return _walk(self.readers, lambda stage: stage.readers)

    @property
    def types(self) -> list[int]:
        """The types of an element's components, as protobuf has them."""
        attributes = self.node.attr
        # Dataset.from_tensors and from_tensor_slices have a name of their own for them
        return list(attributes["output_types" if "output_types" in attributes else "Toutput_types"].list.type)

    @property
    def element_bytes(self) -> int | None:
        """Bytes of one element; None where a dimension or a string's length isn't known."""
        total = 0
        for kind, shape in zip(
            self.node.attr["output_types"].list.type, self.node.attr["output_shapes"].list.shape, strict=False
        ):
            dtype = tf.dtypes.as_dtype(kind)
            sizes = [dimension.size for dimension in shape.dim]
            if shape.unknown_rank or min(sizes, default=0) < 0 or dtype in (tf.string, tf.variant, tf.resource):
                return None
            total += product(sizes) * dtype.size
        return total


def _walk(start: Iterable[Stage], following: Callable[[Stage], Iterable[Stage]]) -> Iterator[Stage]:
    waiting, seen = list(start), set()
    while waiting:
        stage = waiting.pop(0)
        if stage not in seen:
            seen.add(stage)
            yield stage
            waiting += following(stage)
