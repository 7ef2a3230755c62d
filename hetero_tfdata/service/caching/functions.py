"""What the outputs of a graph's functions depend on, and the part of a function that makes some of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tensorflow.core.framework import function_pb2
from tensorflow.python.framework import op_def_registry

__all__ = ["Functions", "Made", "Part"]

_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
# Operations with a state, or with an effect, which give the same values each time they are given the same.
_STEADY = {"Assert", "Print", "PrintV2", "HashTable", "HashTableV2", "LookupTableFind", "LookupTableFindV2"}
_STEADY |= {"LookupTableSize", "LookupTableSizeV2", "VarHandleOp", "ReadVariableOp", "VarIsInitializedOp", "_VarHandlesOp"}
_STEADY |= _CALLS | {"If", "While", "Case"}  # judged by the functions that they call
_PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
_CHANGE = ("LookupTableInsert", "LookupTableRemove", "Assign")


@dataclass(frozen=True)
class Made:
    """How an output comes about.

    Attributes:
        inputs: positions of the arguments that it is made from.
        unsteady: an operation on the way that may give something else each time: "RandomUniform"; or None.
        copy_of: the argument that it is, unchanged; or None.
    """

    inputs: frozenset[int]
    unsteady: str | None = None
    copy_of: int | None = None


@dataclass(frozen=True)
class Part:
    """A function that makes some outputs of another one.

    Attributes:
        name: the new function's.
        inputs: positions of the arguments it takes, in order.
        outputs: positions of the outputs it gives, in order.
        definition: its FunctionDef.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    definition: Any = field(compare=False)


class Functions:
    """The functions of a graph.

    Args:
        definitions: name -> FunctionDef, as in `Graph.functions`.
    """

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._made: dict[str, list[Made]] = {}
        self._unsteady: dict[str, str | None] = {}
        operations = (node.op for definition in definitions.values() for node in definition.node_def)
        # what some function changes, no other one can read twice alike
        self._changes = any(op.startswith(_CHANGE) for op in operations)

    def __getitem__(self, name: str) -> Any:
        return self._definitions[name]

    def made(self, name: str) -> list[Made]:
        """Of each output, how it comes about."""
        if name not in self._made:
            definition = self._definitions[name]
            if any(node.op == "NextIteration" for node in definition.node_def):  # a loop of TensorFlow 1: a circle of nodes
                everything = Made(frozenset(range(len(definition.signature.input_arg))), "a loop of TensorFlow 1")
                return [everything] * len(definition.signature.output_arg)
            values = _Values(self, definition)
            self._made[name] = [values.of(definition.ret[output.name]) for output in definition.signature.output_arg]
        return self._made[name]

    def effect_that_varies(self, name: str, steady: frozenset[int]) -> str | None:
        """An operation that has to run each time, for what it does and not for what it gives: a print of what varies, a file
        that is written. Drawing a random number is none.

        Args:
            name: the function.
            steady: arguments that are the same each time.
        """
        definition = self._definitions[name]
        operations = {node.name: node.op for node in definition.node_def}
        values = _Values(self, definition)
        for node in definition.control_ret.values():
            made = values.of(f"{node}:x:0")
            if made.unsteady is None:
                if not made.inputs <= steady:
                    return operations[node]
            elif "Random" not in made.unsteady:
                return made.unsteady
        return None

    def unsteady(self, name: str) -> str | None:
        """An operation anywhere in the function, or in those that it calls, that may give something else each time."""
        if name not in self._unsteady:
            self._unsteady[name] = None  # while it is looked at: a function may call itself
            nodes = self._definitions[name].node_def
            self._unsteady[name] = next((found for node in nodes if (found := self.unsteady_node(node))), None)
        return self._unsteady[name]

    def unsteady_node(self, node: Any) -> str | None:
        """The same of one operation."""
        definition = op_def_registry.get(node.op)
        if node.op in _PYTHON:
            return "a Python function"
        if definition is None or (definition.is_stateful and (node.op not in _STEADY or self._is_changed(node))):
            return node.op
        return next(
            (found for called in called_by(node) if called in self._definitions and (found := self.unsteady(called))), None
        )

    def operations(self, name: str) -> Iterator[str]:
        """The operations of the function and of those it calls."""
        waiting, seen = [name], {name}
        while waiting:
            for node in self._definitions[waiting.pop()].node_def:
                yield node.op
                for called in called_by(node):
                    if called in self._definitions and called not in seen:
                        seen.add(called)
                        waiting.append(called)

    def part(self, name: str, outputs: Iterable[int], suffix: str, *, effects: bool) -> Part:
        """The part of a function that makes those outputs.

        Args:
            name: the whole function.
            outputs: positions.
            suffix: of the new name.
            effects: keep the function's assertions and prints as well.
        """
        whole = self._definitions[name]
        outputs = tuple(outputs)
        values = _Values(self, whole)
        wanted = [whole.signature.output_arg[position] for position in outputs]
        needed = values.nodes_of(whole.ret[one.name] for one in wanted)
        kept = {}
        for label, node in whole.control_ret.items() if effects else ():
            if values.of(f"{node}:x:0").unsteady is None:
                kept[label] = node
                needed |= values.nodes_of([f"^{node}"])
        part = function_pb2.FunctionDef()
        part.signature.name = f"{name}_{suffix}"
        part.signature.is_stateful = True
        for key, value in whole.attr.items():
            if not key.startswith("_input_shapes"):
                part.attr[key].CopyFrom(value)
        used: set[int] = set()
        for one in wanted:
            part.signature.output_arg.add().CopyFrom(one)
            part.ret[one.name] = whole.ret[one.name]
            used |= values.arguments_in([whole.ret[one.name]])
        for node in whole.node_def:
            if node.name in needed:
                copy = part.node_def.add()
                copy.CopyFrom(node)
                del copy.input[:]
                copy.input.extend(one for one in node.input if not one.startswith("^") or one[1:].partition(":")[0] in needed)
                used |= values.arguments_in(copy.input)
        for label, node in kept.items():
            part.control_ret[label] = node
            part.signature.control_output.append(label)
        for position in sorted(used):
            part.signature.input_arg.add().CopyFrom(whole.signature.input_arg[position])
        return Part(part.signature.name, tuple(sorted(used)), outputs, part)

    def identity(self, names: Iterable[str], parts: Mapping[str, Any]) -> bytes:
        """A digest of what functions compute, whatever they are called: the same for a dataset that is made twice."""
        digest = hashlib.sha256()
        order: dict[str, int] = {}
        waiting = list(names)
        while waiting:
            name = waiting.pop(0)
            if name in order:
                continue
            order[name] = len(order)
            definition = parts[name] if name in parts else self._definitions.get(name)
            waiting += [called for node in (definition.node_def if definition else ()) for called in called_by(node)]
        for name in order:
            definition = function_pb2.FunctionDef()
            definition.CopyFrom(parts[name] if name in parts else self._definitions[name])
            definition.signature.name = ""
            definition.ClearField("arg_attr")
            for node in definition.node_def:
                node.ClearField("experimental_debug_info")
                for attribute in node.attr.values():
                    for function in (attribute.func, *attribute.list.func):
                        if function.name in order:
                            function.name = str(order[function.name])
            digest.update(definition.SerializeToString(deterministic=True))
        return digest.digest()

    def _is_changed(self, node: Any) -> bool:
        return self._changes and (node.op.startswith("LookupTable") or node.op == "ReadVariableOp")


def called_by(node: Any) -> Iterator[str]:
    """Names of the functions in a node's attributes."""
    for attribute in node.attr.values():
        for function in (attribute.func, *attribute.list.func):
            if function.name:
                yield function.name


class _Values:
    """The values inside one function. A reference is "argument", "node:output:number" or "^node"."""

    def __init__(self, functions: Functions, definition: Any) -> None:
        self._functions = functions
        self._nodes = {node.name: node for node in definition.node_def}
        self._arguments = {argument.name: number for number, argument in enumerate(definition.signature.input_arg)}
        self._known: dict[str, Made] = {}

    def of(self, reference: str) -> Made:
        """How a value comes about."""
        waiting = [reference]
        while waiting:
            missing = [one for one in self._below(waiting[-1]) if one not in self._known]
            if missing:
                waiting += missing
                continue
            one = waiting.pop()
            self._known[one] = self._combine(one)
        return self._known[reference]

    def nodes_of(self, references: Iterable[str]) -> set[str]:
        """The nodes that make the values, with what has to run before them; what is unsteady need not."""
        waiting, needed = [one.lstrip("^").partition(":")[0] for one in references], set()
        while waiting:
            name = waiting.pop()
            if name in needed or name not in self._nodes:
                continue
            needed.add(name)
            for one in self._nodes[name].input:
                if not one.startswith("^"):
                    waiting.append(one.partition(":")[0])
                elif one[1:] in self._nodes and self.of(f"{one[1:]}:x:0") == self._without_effects(one[1:]):
                    waiting.append(one[1:])
        return needed

    def arguments_in(self, references: Iterable[str]) -> set[int]:
        """Positions of the arguments among references."""
        return {self._arguments[one] for one in references if one in self._arguments}

    def _without_effects(self, name: str) -> Made | None:
        made = self.of(f"{name}:x:0")
        # constants and assertions on the function's own constants: nothing more has to be given to the part
        return made if made.unsteady is None and not made.inputs else None

    def _below(self, reference: str) -> list[str]:
        node = self._nodes.get(reference.partition(":")[0])
        return [] if reference in self._arguments or node is None else [one for one in node.input if not one.startswith("^")]

    def _combine(self, reference: str) -> Made:
        if reference in self._arguments:
            number = self._arguments[reference]
            return Made(frozenset([number]), copy_of=number)
        name, _, which = reference.partition(":")
        node = self._nodes[name]
        below = [self._known[one] for one in node.input if not one.startswith("^")]
        if node.op == "Identity":
            return below[0]
        unsteady = self._functions.unsteady_node(node)
        if node.op in _CALLS and unsteady is None and which.startswith("output:"):
            # of a call each output for itself
            inside = self._functions.made(node.attr["f"].func.name)[int(which.rpartition(":")[2])]
            if inside.copy_of is not None:
                return below[inside.copy_of]
            below = [below[number] for number in sorted(inside.inputs)]
        inputs = frozenset().union(*(one.inputs for one in below))
        return Made(inputs, unsteady or next((one.unsteady for one in below if one.unsteady), None))
