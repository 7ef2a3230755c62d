"""How a source in memory is divided among workers: in blocks of elements.

Under dynamic sharding a worker asks the dispatcher for each single element of `Dataset.range` and `from_tensor_slices`, one
request at a time: 42 us of CPU an element between the two (TF 2.15.1, loopback, 2026-11-26), more than `cifar_heavy` takes for
an image, and over a network a round trip each. So the source becomes a range of block numbers, each opened on the worker as the
elements of that block, in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from hetero_tfdata.service.preflight.graph import Graph
from hetero_tfdata.service.preflight.stage import Stage

__all__ = ["block_size", "in_blocks"]

# At 64 elements a request, an element's share of it is less than 1 us.
_LARGEST_BLOCK = 64
# There are at least so many blocks, for any number of workers to end together, and to lose little of when one dies.
_LEAST_BLOCKS = 1024
# Rewriting takes a few copies of the graph; a graph as large as that has large elements.
_LARGEST_GRAPH_BYTES = 1 << 30


def in_blocks(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset with the same elements in the same order, its source divided in blocks; or the dataset itself.

    That is where it has several sources (their blocks would have to be the same), few elements, or one that is cheap to divide:
    names of files, TFRecords.
    """
    graph = Graph(dataset)
    sources = [stage for stage in graph.stages if not stage.inputs]
    if len(sources) != 1 or not 0 < graph.size_bytes < _LARGEST_GRAPH_BYTES:
        return dataset
    (source,) = sources
    count = graph.count(source)
    size = block_size(count) if count else 1
    opened = {"TensorSlice": _open_slices, "Range": _open_range}.get(source.kind)
    if size == 1 or opened is None or tf.string.as_datatype_enum in source.types or source.node.attr["is_files"].b:
        return dataset
    assert count is not None
    definition = graph_pb2.GraphDef()
    definition.CopyFrom(graph.definition)
    _divide(definition, opened(source, count, size), source, -(-count // size))
    variant = tf.raw_ops.DatasetFromGraph(graph_def=definition.SerializeToString())
    return tf.data.experimental.from_variant(variant, dataset.element_spec)


def block_size(count: int) -> int:
    """Elements of a block of a source with that many elements."""
    return max(1, min(_LARGEST_BLOCK, count // _LEAST_BLOCKS))


def _open_slices(source: Stage, count: int, size: int) -> tf.types.experimental.ConcreteFunction:
    """From a block's number and the source's components to a variant of the block's dataset."""
    shapes = [tf.TensorShape(shape) for shape in source.node.attr["output_shapes"].list.shape]
    specs = [tf.TensorSpec([count, *shape], tf.as_dtype(kind)) for shape, kind in zip(shapes, source.types, strict=True)]

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.int64), *specs])
    def open_block(number: tf.Tensor, *components: tf.Tensor) -> tf.Tensor:
        block = tuple(component[number * size : (number + 1) * size] for component in components)
        return tf.data.Dataset.from_tensor_slices(block)._variant_tensor

    return open_block.get_concrete_function()


def _open_range(source: Stage, count: int, size: int) -> tf.types.experimental.ConcreteFunction:
    """From a block's number and the range's start, stop and step."""
    kind = tf.as_dtype(source.types[0])

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.int64)] * 4)
    def open_block(number: tf.Tensor, start: tf.Tensor, stop: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        first = start + number * size * step
        last = tf.where(number == (count - 1) // size, stop, first + size * step)
        return tf.data.Dataset.range(first, last, step, output_type=kind)._variant_tensor

    return open_block.get_concrete_function()


def _divide(definition: Any, opened: tf.types.experimental.ConcreteFunction, source: Stage, blocks: int) -> None:
    """Puts flat_map(open_block) over a range of block numbers in the place of the source."""
    with tf.Graph().as_default() as drawn:
        stand_ins = [tf.compat.v1.placeholder(one.dtype, one.shape) for one in opened.inputs[1:]]
        range_variant = tf.data.Dataset.range(blocks)._variant_tensor
        opened(tf.constant(0, tf.int64), *stand_ins)
    added = drawn.as_graph_def()
    (call,) = (node for node in added.node if node.op in ("PartitionedCall", "StatefulPartitionedCall"))
    definition.library.function.extend(added.library.function)
    prefix = f"{source.node.name}/blocks"
    needed = _with_inputs(range_variant.op.name, {node.name: node for node in added.node})
    for node in needed:
        node.name = f"{prefix}/{node.name}"
        node.input[:] = [f"{prefix}/{name}" for name in node.input]
        definition.node.add().CopyFrom(node)
    (place,) = (node for node in definition.node if node.name == source.node.name)
    components = list(place.input)
    types, shapes = list(source.types), list(place.attr["output_shapes"].list.shape)
    flat_map = graph_pb2.GraphDef().node.add()
    flat_map.name, flat_map.op = place.name, "FlatMapDataset"
    flat_map.input.extend([needed[0].name, *components])
    flat_map.attr["f"].func.name = call.attr["f"].func.name
    flat_map.attr["Targuments"].list.type.extend(spec.dtype.as_datatype_enum for spec in opened.inputs[1:])
    flat_map.attr["output_types"].list.type.extend(types)
    flat_map.attr["output_shapes"].list.shape.extend(shapes)
    place.CopyFrom(flat_map)


def _with_inputs(name: str, nodes: dict[str, Any]) -> Sequence[Any]:
    """Copies of a node, the first, and of what it reads."""
    found: dict[str, Any] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop(0).lstrip("^").partition(":")[0]
        if one not in found:
            found[one] = graph_pb2.GraphDef().node.add()
            found[one].CopyFrom(nodes[one])
            waiting += nodes[one].input
    return list(found.values())
