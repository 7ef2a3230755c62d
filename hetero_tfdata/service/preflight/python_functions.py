"""Python functions in the graph: which of them a worker can call, and those that it can't.

Only the functions' numbers are in the graph; they themselves stay in the process that made it. A worker that imports the same
modules has the same functions, and can be told which number stands for which (functions.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from hetero_tfdata.service.functions import Functions, PythonFunction, digest, is_importable, versions_of
from hetero_tfdata.service.preflight.finding import Finding, Job
from hetero_tfdata.service.preflight.graph import Graph

__all__ = ["function_nodes", "python_functions", "registered_functions", "servable"]

_PYTHON_OPS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")


def python_functions(graph: Graph, job: Job) -> Iterator[Finding]:
    """Generators, and Python functions that a worker can't find."""
    generators: dict[str, str] = {}
    functions: dict[str, str] = {}
    for stage in graph.all_stages:
        nodes = list(graph.operations_of(stage))
        names = [name for node in nodes if node.op in _PYTHON_OPS and (name := _name_of(node))]
        if any(node.op == "GeneratorDataset" for node in nodes):
            generators[f"from_generator({names[0] if names else ''})"] = stage.call()
            continue
        for node in nodes:
            if node.op in _PYTHON_OPS and not (job.takes_demands and _is_found(node, by_tracing=job.dataset_fn is not None)):
                kind = "py_function" if node.op == "EagerPyFunc" else "numpy_function"
                functions[f"{kind}({_name_of(node) or ''}) in {stage.call()}"] = stage.call()
    for operation in generators:
        yield Finding(
            "generator",
            operation,
            "the generator lives in this process, a worker can't call it",
            "write the samples to TFRecord files and read those, or leave this dataset undistributed",
            refused=True,
        )
    for operation in functions:
        yield Finding(
            "python-function",
            operation,
            "the function lives in this process, a worker can't call it",
            "write it in TensorFlow operations, or map it after distribute(). Or have the job's workers import it: a function "
            'of a module beside the script, or distribute(dataset_fn="module:make_dataset") for one that is made in a function',
            refused=True,
        )


def servable(graph: Graph, job: Job) -> Functions | None:
    """What the workers have to be told of the graph's functions; None where it has none that they could call."""
    if not job.takes_demands:
        return None
    nodes = function_nodes(graph)
    registered = registered_functions(nodes)
    if not registered or not all(_is_found(node, by_tracing=job.dataset_fn is not None) for node in nodes.values()):
        return None
    found, functions = zip(*registered, strict=True)
    return Functions(tuple(found), job.dataset_fn, versions_of(functions))


def function_nodes(graph: Graph) -> dict[str, Any]:
    """Token -> a node that calls the function."""
    return {node.attr["token"].s.decode(): node for _, node in graph.operations() if node.op in _PYTHON_OPS}


def registered_functions(nodes: dict[str, Any]) -> list[tuple[PythonFunction, Callable[..., Any]]]:
    """Those that this process has registered under the tokens of those nodes, in that order."""
    found = []
    for token, node in nodes.items():
        function = _user_function(_registered(token))
        if function is None:
            continue
        source, closure = digest(function)
        outputs = tuple(tf.as_dtype(one).name for one in node.attr["Tout"].list.type) if node.op == "EagerPyFunc" else None
        name = getattr(function, "__qualname__", type(function).__qualname__)
        module = getattr(function, "__module__", type(function).__module__)
        found.append((PythonFunction(token, module, name, source, closure, outputs), function))
    return sorted(found, key=lambda one: one[0].number)


def _is_found(node: Any, *, by_tracing: bool) -> bool:
    """Whether a worker could find what the node calls: by tracing the dataset, or by importing the function alone. Around one
    that takes or gives composite tensors TensorFlow puts another, which no import brings."""
    registered = _registered(node.attr["token"].s.decode())
    function = _user_function(registered)
    if by_tracing:
        return function is not None
    called = getattr(registered, "_func", registered)
    is_wrapped = getattr(called, "__qualname__", "").startswith("_wrap_for_composites")
    return function is not None and not is_wrapped and is_importable(function)


def _name_of(node: Any) -> str | None:
    """ "decode, train.py:12": the function that the node calls."""
    code = getattr(_user_function(_registered(node.attr["token"].s.decode())), "__code__", None)
    return f"{code.co_name}, {os.path.basename(code.co_filename)}:{code.co_firstlineno}" if code else None


def _registered(token: str) -> Any:
    from tensorflow.python.ops import script_ops

    return script_ops._py_funcs.get(token) or script_ops._py_funcs.get(token.encode())


def _user_function(registered: Any) -> Callable[..., Any] | None:
    """The first function outside TensorFlow among what the registered one wraps."""
    own = os.path.dirname(tf.__file__)
    waiting = [registered]
    seen: set[int] = set()
    while waiting and len(seen) < 200:
        value = waiting.pop(0)
        if value is None or id(value) in seen:
            continue
        seen.add(id(value))
        code = getattr(value, "__code__", None)
        if code is not None and not code.co_filename.startswith(own):
            return value
        waiting += [getattr(value, name, None) for name in ("_func", "_generator", "__wrapped__", "__func__", "func")]
        if code is None and callable(value) and not isinstance(value, type):
            waiting.append(getattr(type(value), "__call__"))  # noqa: B009, B004  (an object with a method of that name)
        for cell in getattr(value, "__closure__", None) or ():
            try:
                inside = cell.cell_contents
            except ValueError:
                continue
            if callable(inside) or type(inside).__name__ == "_GeneratorState":
                waiting.append(inside)
    return None
