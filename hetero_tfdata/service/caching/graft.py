"""Puts one step that looks results up in the place of a run of map() steps, in the dataset's graph."""

from __future__ import annotations

import hashlib
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, graph_pb2

from hetero_tfdata.service.cache import Cache
from hetero_tfdata.service.caching.functions import Functions, Part
from hetero_tfdata.service.caching.lookup import Place, remember
from hetero_tfdata.service.caching.region import Region
from hetero_tfdata.service.preflight.graph import ENDLESS, Graph
from hetero_tfdata.service.preflight.sizes import in_units
from hetero_tfdata.service.preflight.stage import Stage

__all__ = ["grafted", "summary"]


def grafted(dataset: tf.data.Dataset, graph: Graph, functions: Functions, region: Region, cache: Cache) -> tf.data.Dataset:
    """The dataset, its elements unchanged, with the region's results looked up."""
    kept = region.parts(functions, region.kept, "kept", effects=True)
    fresh = region.parts(functions, region.fresh, "fresh", effects=False) if region.fresh else []
    captured = [_captured(stage) for stage in region.maps]
    step = _Step(region, kept, fresh, [len(names) for names in captured])
    name, library = step.trace(cache, _identity(graph, functions, region, kept, captured))
    definition = graph_pb2.GraphDef()
    definition.CopyFrom(graph.definition)
    known = {function.signature.name for function in definition.library.function}
    for function in [*library, *(part.definition for part in (*kept, *fresh))]:
        if function.signature.name not in known:
            definition.library.function.add().CopyFrom(function)
    nodes = {node.name: node for node in definition.node}
    _replace(nodes, region, name, [one for names in captured for one in names])
    variant = tf.raw_ops.DatasetFromGraph(graph_def=definition.SerializeToString())
    return tf.data.experimental.from_variant(variant, dataset.element_spec)


def summary(graph: Graph, region: Region, cache: Cache) -> str:
    """For the log: what is kept where, and what it may come to."""
    last = region.maps[-1]
    size_bytes = _kept_bytes(region)
    budget = in_units(cache.budget_bytes) if cache.budget_bytes else "the host's default budget"
    text = f"{region.title} is computed once and kept ({cache.where}, {budget} a host)"
    if size_bytes:
        count = graph.count(region.source)
        if count and count != ENDLESS:
            text += f"; all of it is {in_units(count * size_bytes)}, {in_units(size_bytes)} a record"
            if cache.budget_bytes and count * size_bytes > cache.budget_bytes:
                text += ": on one host it doesn't fit, the rest is computed in each pass"
        else:
            text += f"; {in_units(size_bytes)} a record"
            if cache.budget_bytes:
                text += f", {cache.budget_bytes // size_bytes:,} of them fit"
    fresh = [f"component {number} ({region.values[number].varies})" for number in region.fresh]
    return text + (f"; not kept: {', '.join(fresh)} of {last.call()}" if fresh else "")


class _Step:
    """The function that takes the place of the run: of the run's input and of all that its functions captured."""

    def __init__(self, region: Region, kept: list[Part], fresh: list[Part], captured: list[int]) -> None:
        self._region = region
        self._kept = kept
        self._fresh = fresh
        self._captured = captured
        self._types = [tf.as_dtype(kind) for kind in region.source.types]

    def trace(self, cache: Cache, identity: str) -> tuple[str, list[Any]]:
        """The function's name, and the definitions of it and those that it calls."""
        region = self._region
        shapes = [tf.TensorShape(shape) for shape in region.source.node.attr["output_shapes"].list.shape]
        specs = [tf.TensorSpec(shape, kind) for shape, kind in zip(shapes, self._types, strict=True)]
        for stage in region.maps:
            specs += [tf.TensorSpec(None, tf.as_dtype(kind)) for kind in stage.node.attr["Targuments"].list.type]
        types = [tf.as_dtype(kind) for kind in region.maps[-1].types]

        @tf.function(autograph=False, input_signature=specs)
        def cached_step(*arguments: Any) -> Any:
            found = remember(
                [arguments[number] for number in region.key],
                lambda: self._run(self._kept, arguments, types),
                [types[number] for number in region.kept],
                Place(cache.where, identity, cache.budget_bytes, _kept_bytes(region)),
            )
            outputs = dict(zip(region.kept, found, strict=True))
            if region.fresh:
                outputs.update(zip(region.fresh, self._run(self._fresh, arguments, types), strict=True))
            copies = {n: value.copy_of for n, value in enumerate(region.values) if value.copy_of is not None}
            return [outputs[n] if n in outputs else tf.identity(arguments[copies[n]]) for n in range(len(types))]

        traced = cached_step.get_concrete_function()
        with tf.Graph().as_default() as graph:  # which gathers the definitions
            traced(*[tf.compat.v1.placeholder(spec.dtype, spec.shape) for spec in specs])
        definition = graph.as_graph_def()
        (call,) = (node for node in definition.node if node.op in ("PartitionedCall", "StatefulPartitionedCall"))
        return call.attr["f"].func.name, list(definition.library.function)

    def _run(self, parts: list[Part], arguments: tuple[Any, ...], types: list[tf.DType]) -> list[Any]:
        """The parts one after the other; in the end the last one's outputs."""
        elements = dict(enumerate(arguments[: len(self._types)]))
        offset = len(self._types)
        outputs: list[Any] = []
        for stage, part, count in zip(self._region.maps, parts, self._captured, strict=True):
            below = len(stage.inputs[0].types)
            given = [elements[one] if one < below else arguments[offset + one - below] for one in part.inputs]
            kinds = [tf.as_dtype(stage.types[one]) for one in part.outputs]
            name = attr_value_pb2.NameAttrList(name=part.name)
            call = tf.raw_ops.StatefulPartitionedCall(args=given, Tout=kinds, f=name)
            outputs = list(call) if kinds else []
            elements = dict(zip(part.outputs, outputs, strict=True))
            offset += count
        return outputs


def _replace(nodes: dict[str, Any], region: Region, function: str, captured: list[str]) -> None:
    """The last step gets the function, the input of the first one, and the parallelism of whichever has one."""
    last = nodes[region.maps[-1].node.name]
    parallel = [nodes[stage.node.name] for stage in region.maps if stage.kind == "ParallelMap"]
    pattern = graph_pb2.GraphDef().node.add()
    pattern.CopyFrom(parallel[-1] if parallel else last)
    types, shapes = (attr_value_pb2.AttrValue() for _ in range(2))
    types.list.type.extend(region.source.types)
    shapes.CopyFrom(region.source.node.attr["output_shapes"])
    arguments = attr_value_pb2.AttrValue()
    arguments.list.SetInParent()
    for stage in region.maps:
        arguments.list.type.extend(stage.node.attr["Targuments"].list.type)
    for name in ("output_types", "output_shapes"):
        pattern.attr[name].CopyFrom(last.attr[name])
    pattern.attr["f"].func.name = function
    pattern.attr["Targuments"].CopyFrom(arguments)
    threads = [pattern.input[-1]] if parallel else []
    pattern.name = last.name
    del pattern.input[:]
    pattern.input.extend([last.input[0], *captured, *threads])
    # what stood between the steps now passes the run's input on; the earlier steps themselves are left out
    for stage in region.between():
        node = nodes[stage.node.name]
        node.attr["output_types"].CopyFrom(types)
        node.attr["output_shapes"].CopyFrom(shapes)
    earlier = {stage.node.name: nodes[stage.node.name].input[0] for stage in region.maps[:-1]}
    last.CopyFrom(pattern)
    for node in nodes.values():
        for place, name in enumerate(node.input):
            while name.partition(":")[0] in earlier:
                name = earlier[name.partition(":")[0]]
            node.input[place] = name


def _captured(stage: Stage) -> list[str]:
    return list(stage.arguments.get("other_arguments", []))


def _identity(graph: Graph, functions: Functions, region: Region, kept: list[Part], captured: list[list[str]]) -> str:
    """A name for what is computed: the same whenever the dataset is made in the same way, and for no other."""
    digest = hashlib.sha256(functions.identity([part.name for part in kept], {part.name: part.definition for part in kept}))
    digest.update(repr([(part.inputs, part.outputs) for part in kept] + [region.key, region.kept]).encode())
    waiting = [name for names in captured for name in names]
    handles = False
    seen: set[str] = set()
    while waiting:
        name = waiting.pop(0).lstrip("^").partition(":")[0]
        if name in seen:
            continue
        seen.add(name)
        node = graph.nodes[name]
        handles |= node.op != "Const" and node.op != "Identity"
        digest.update(node.op.encode() + b"".join(_attributes(node)))
        waiting += node.input
    if handles:  # tables and variables: what fills them stands elsewhere in the graph
        for node in graph.nodes.values():
            if node.op == "Const":
                digest.update(b"".join(_attributes(node)))
    return digest.hexdigest()[:16]


def _attributes(node: Any) -> list[bytes]:
    return [node.attr[name].SerializeToString(deterministic=True) for name in sorted(node.attr) if not name.startswith("_")]


def _kept_bytes(region: Region) -> int | None:
    """Of one record; None where a size isn't known."""
    last, total = region.maps[-1], 0
    for number in region.kept:
        kind = tf.as_dtype(last.types[number])
        size = tf.TensorShape(last.node.attr["output_shapes"].list.shape[number]).num_elements()
        if size is None or kind in (tf.string, tf.variant):
            return None
        total += size * kind.size
    return total
