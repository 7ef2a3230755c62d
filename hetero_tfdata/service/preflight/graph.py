"""A dataset's own graph, which is what a worker gets, read as the stages that the user wrote.

Only the stages of the main graph are divided among workers. A dataset made inside a function (what `interleave` opens for
each file) or captured by one is whole on whichever worker runs the function (probed on TF 2.15.1: `take(3)` inside
`interleave` gave 3 of each file on two workers).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.framework import op_def_registry

from hetero_tfdata.errors import DatasetError
from hetero_tfdata.service.preflight.sizes import Constant
from hetero_tfdata.service.preflight.stage import Stage

__all__ = ["ENDLESS", "Graph", "first_line"]

ENDLESS = -1

_DATASET_OP = re.compile(r"^(?:Experimental)?(\w*?)Dataset(?:V\d+)?$")
_SAME_COUNT = {"Cache", "Map", "Model", "Options", "ParallelMap", "Prefetch", "Scan", "Shuffle", "AssertCardinality"}
_SMALL_BYTES = 4096


class Graph:
    """The graph of a dataset.

    Args:
        dataset: any dataset; nothing of it runs. Where the graph is over protobuf's 2 GiB it has no size and no stages.

    Raises:
        DatasetError: TensorFlow can't write its graph, so that no other process could read it.
    """

    def __init__(self, dataset: tf.data.Dataset) -> None:
        try:
            # as distribute() registers it: shuffles and generators have state, which does not travel
            serialized = dataset._as_serialized_graph(
                external_state_policy=tf.data.experimental.ExternalStatePolicy.IGNORE
            ).numpy()
        except (tf.errors.OpError, ValueError) as error:
            raise DatasetError(
                f"TensorFlow can't write the dataset's graph for other processes: {first_line(error)}"
            ) from error
        self.size_bytes = len(serialized)
        self._graph = graph_pb2.GraphDef()
        self._graph.ParseFromString(serialized)
        self.nodes = {node.name: node for node in self._graph.node}
        self.functions = {function.signature.name: function for function in self._graph.library.function}
        self._stages: dict[str, Stage] = {}
        if serialized:
            result = next(node for node in self._graph.node if node.op == "_Retval").input[0]
            self._read_stages(result)
            self.result = self._stages[self._dataset_node(result).name]
        self._counts: dict[Stage, int | None] = {}
        self._endless: dict[Stage, bool] = {}
        for stage in self._stages.values():
            self._counts[stage] = self._count(stage)
            self._endless[stage] = self._is_endless(stage)

    @property
    def definition(self) -> Any:
        """The GraphDef."""
        return self._graph

    @cached_property
    def stages(self) -> list[Stage]:
        """The stages that the workers divide or repeat, each once, sources first."""
        reached = {self.result, *self.result.upstream()}
        return [stage for stage in self._stages.values() if stage in reached]

    @property
    def all_stages(self) -> list[Stage]:
        """Those, and the datasets that functions captured."""
        return [*self.stages, *(stage for stage in self._stages.values() if stage not in self.stages)]

    def operations(self) -> Iterator[tuple[str, Any]]:
        """(where it stands, NodeDef) of every node, those of functions included."""
        for node in self._graph.node:
            yield "the dataset", node
        for name, function in self.functions.items():
            owner = self.owner(name)
            for node in function.node_def:
                yield owner, node

    def owner(self, function: str) -> str:
        """The call that uses a function: "map(decode)"."""
        for stage in self._stages.values():
            if function in stage.functions:
                return stage.call()
        return function

    def operations_of(self, stage: Stage) -> Iterator[Any]:
        """The nodes of the functions that a stage calls."""
        for name in stage.functions:
            yield from self.functions[name].node_def

    def value(self, stage: Stage, argument: str) -> Any:
        """The number, truth value or text that a stage was given; None if it is not a small constant."""
        names = stage.arguments.get(argument)
        node = self._constant(names[0]) if names else None
        if node is None or node.attr["value"].tensor.ByteSize() > _SMALL_BYTES:
            return None
        value = tf.make_ndarray(node.attr["value"].tensor)
        return value.item() if value.size == 1 else value.tolist()

    def constants(self) -> list[Constant]:
        """What travels with the graph, the largest first."""
        users: dict[str, list[str]] = {}
        for node in self._graph.node:
            for name in node.input:
                users.setdefault(_name(name), []).append(node.name)

        def where(name: str, depth: int = 0) -> str:
            if name in self._stages:
                return self._stages[name].call()
            return next((where(user, depth + 1) for user in users.get(name, ()) if depth < 8), "the dataset")

        found = [_constant(node, where(node.name)) for node in self._graph.node if node.op == "Const" and _is_plain(node)]
        for name, function in self.functions.items():
            found += [_constant(node, self.owner(name)) for node in function.node_def if node.op == "Const"]
        return sorted(found, key=lambda constant: -constant.size_bytes)

    def count(self, stage: Stage) -> int | None:
        """How many elements a stage gives; ENDLESS, or None if that can't be told from the graph."""
        return self._counts[stage]

    def is_endless(self, stage: Stage) -> bool:
        """Whether the stage never ends; where the number can't be told, whether something before it repeats for ever."""
        return self._endless[stage]

    def captured_handles(self) -> Iterator[tuple[str, list[str]]]:
        """(the call, the operations of its functions) for each stage that holds on to a resource of this process."""
        for stage in self._stages.values():
            for argument, names in stage.arguments.items():
                # what functions captured; the other handles, of shuffle and cache, a worker makes itself
                nodes = [self._constant(name) for name in names] if "other_arg" in argument else []
                if any(node is not None and node.attr["dtype"].type == tf.resource.as_datatype_enum for node in nodes):
                    yield stage.call(), [node.op for node in self.operations_of(stage)]

    def _read_stages(self, result: str) -> None:
        """All datasets from the result on, each after those it reads. Without recursion: a loop can chain thousands."""
        waiting = [self._dataset_node(result)]
        while waiting:
            node = waiting[-1]
            arguments = _arguments(node)
            below = {
                argument: [self._dataset_node(name) for name in names if self._is_dataset(name)]
                for argument, names in arguments.items()
            }
            unread = [one for nodes in below.values() for one in nodes if one.name not in self._stages]
            if unread and node.name not in self._stages:
                waiting += unread
                continue
            waiting.pop()
            if node.name not in self._stages:
                self._stages[node.name] = self._stage(node, arguments, below)

    def _stage(self, node: Any, arguments: dict[str, list[str]], below: dict[str, list[Any]]) -> Stage:
        matched = _DATASET_OP.match(node.op)
        # "other_arguments" and the like are what functions captured: whole on each worker
        inputs = [self._stages[one.name] for argument, nodes in below.items() if "dataset" in argument for one in nodes]
        stage = Stage(matched.group(1) if matched else node.op, node, inputs, self._called(node), arguments)
        for one in inputs:
            one.readers.append(stage)
        for selector in below.get("selector_input_dataset", ()):
            chooser = self._stages[selector.name]
            for one in (chooser, *chooser.upstream()):
                one.chooses = True
        return stage

    def _dataset_node(self, name: str) -> Any:
        node = self.nodes[_name(name)]
        while node.op == "Identity":
            node = self.nodes[_name(node.input[0])]
        return node

    def _is_dataset(self, name: str) -> bool:
        return _DATASET_OP.match(self._dataset_node(name).op) is not None

    def _count(self, stage: Stage) -> int | None:
        below = [self._counts[one] for one in stage.inputs]
        first = below[0] if below else None
        if stage.kind in _SAME_COUNT:
            return first
        if stage.kind == "Tensor":
            return 1
        if stage.kind == "TensorSlice":
            node = self._constant(stage.arguments["components"][0])
            return None if node is None else int(node.attr["value"].tensor.tensor_shape.dim[0].size)
        if stage.kind == "Range":
            start, stop, step = (self.value(stage, name) for name in ("start", "stop", "step"))
            if start is None or stop is None or not step:
                return None
            count = max(0, -((start - stop) // step))  # rounded up; len(range()) ends at 2**63
            return ENDLESS if count > 2**62 else count
        if stage.kind == "Random":
            return ENDLESS
        if first is None or first == ENDLESS:
            return first if stage.kind in ("Repeat", "Batch", "ParallelBatch", "PaddedBatch") else None
        if stage.kind == "Repeat" and (times := self.value(stage, "count")) is not None:
            return first * times if times >= 0 or first == 0 else ENDLESS
        if stage.kind in ("Batch", "ParallelBatch", "PaddedBatch") and (size := self.value(stage, "batch_size")):
            return first // size if self.value(stage, "drop_remainder") else -(-first // size)
        return None

    def _is_endless(self, stage: Stage) -> bool:
        count = self._counts[stage]
        if count is not None:
            return count == ENDLESS
        below = [self._endless[one] for one in stage.inputs]
        if stage.kind == "Repeat":
            return self.value(stage, "count") == -1 or any(below)
        if stage.kind == "TakeWhile" or (stage.kind == "Take" and self.value(stage, "count") != -1):
            return False
        return all(below) and bool(below) if stage.kind == "Zip" else any(below)

    def _called(self, node: Any) -> list[str]:
        names: list[str] = []
        waiting = [node]
        while waiting:
            for attribute in waiting.pop(0).attr.values():
                for name in [attribute.func.name, *(function.name for function in attribute.list.func)]:
                    if name in self.functions and name not in names:
                        names.append(name)
                        waiting.extend(self.functions[name].node_def)
        return names

    def _constant(self, name: str) -> Any:
        node = self.nodes.get(_name(name))
        while node is not None and node.op == "Identity":
            node = self.nodes.get(_name(node.input[0]))
        return node if node is not None and node.op == "Const" else None


def _arguments(node: Any) -> dict[str, list[str]]:
    """The node's inputs by the names that its operation gives them."""
    definition = op_def_registry.get(node.op)
    given = [name for name in node.input if not name.startswith("^")]
    if definition is None:
        return {"input": given}
    arguments, position = {}, 0
    for argument in definition.input_arg:
        if argument.number_attr:
            length = node.attr[argument.number_attr].i
        elif argument.type_list_attr:
            length = len(node.attr[argument.type_list_attr].list.type)
        else:
            length = 1
        arguments[argument.name] = given[position : position + length]
        position += length
    return arguments


def _constant(node: Any, where: str) -> Constant:
    tensor = node.attr["value"].tensor
    return Constant(
        size_bytes=tensor.ByteSize(),
        dtype=tf.dtypes.as_dtype(tensor.dtype).name,
        shape=tuple(dimension.size for dimension in tensor.tensor_shape.dim),
        where=where,
    )


def _is_plain(node: Any) -> bool:
    return node.attr["dtype"].type != tf.resource.as_datatype_enum


def _name(reference: str) -> str:
    return reference.lstrip("^").partition(":")[0]


def first_line(error: Exception) -> str:
    """Of an error of TensorFlow's."""
    message = getattr(error, "message", None) or str(error)
    return message.splitlines()[0] if message else type(error).__name__
