"""A worker's side of Python functions: finds those of a graph in the job's own modules and puts each under its number.

What is found has to be what the graph means, or nothing is put anywhere: a wrong function would give wrong data without a word.
Everything that the job's modules print or raise meanwhile stays in this process.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import script_ops

from hetero_tfdata.service.functions import Functions, PythonFunction, difference, digest, versions_of

__all__ = ["problem_of_serving"]

# The numbers that this process gives to functions of its own: beyond all that a training process could have come to.
_OWN_NUMBERS = 1 << 40
_held: dict[str, tuple[PythonFunction, Any]] = {}  # what the registry knows by weak references alone
_lock = threading.Lock()


class _NotFound(Exception):
    """Why a function can't be had, as a sentence."""


def problem_of_serving(functions: Functions) -> str | None:
    """Puts the functions under their numbers, in a process that goes on whatever comes of it.

    Returns:
        None if the process can serve a graph with these functions from now on, else why not.
    """
    importlib.invalidate_caches()  # a module's file may be younger than this process
    with _lock:
        try:
            found = _traced(functions.dataset_fn) if functions.dataset_fn else _imported(functions)
        except _NotFound as error:
            return str(error)
        there = [function for function, _, _ in found]
        problem = difference(functions, there, versions_of([function for _, function, _ in found]))
        if problem is not None:
            return problem
        for wanted in functions.functions:
            before = _held.get(wanted.token)
            if before is not None and before[0] != wanted:
                return f"{wanted.token} is {before[0].name} of another dataset already, which another process registered"
        for wanted, (_, _, registered) in zip(functions.functions, found, strict=True):
            _held[wanted.token] = (wanted, registered)
            script_ops._py_funcs._funcs[wanted.token] = registered
    return None


_Found = tuple[PythonFunction, Callable[..., Any], Any]  # who it is, the function itself, what the registry holds


def _traced(dataset_fn: str) -> list[_Found]:
    """The functions of the dataset that `dataset_fn` makes in this process."""
    from hetero_tfdata.service.preflight.graph import Graph
    from hetero_tfdata.service.preflight.python_functions import function_nodes, registered_functions

    make = _attribute(*dataset_fn.split(":"))
    registry = script_ops._py_funcs
    with registry._lock:
        registry._unique_id = max(registry._unique_id, _OWN_NUMBERS)
    try:
        dataset = make()
        nodes = function_nodes(Graph(dataset))
    except (Exception, SystemExit) as error:
        raise _NotFound(f"calling {dataset_fn} raised {_told(error)}") from error
    return [(who, function, registry.get(who.token)) for who, function in registered_functions(nodes)]


def _imported(functions: Functions) -> list[_Found]:
    found: list[_Found] = []
    for wanted in functions.functions:
        function = _attribute(wanted.module, wanted.name)
        source, closure = digest(function)
        who = PythonFunction(wanted.token, wanted.module, wanted.name, source, closure, wanted.outputs)
        is_eager = wanted.outputs is not None
        registered = (
            script_ops.EagerFunc(function, [tf.as_dtype(one) for one in wanted.outputs or ()], False) if is_eager else function
        )
        found.append((who, function, registered))
    return found


def _attribute(module: str, name: str) -> Callable[..., Any]:
    try:
        value: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise _NotFound(f"there is no module {module}") from error
        raise _NotFound(f"importing {module} raised {_told(error)}") from error
    for part in name.split("."):
        value = getattr(value, part, None)
    if not callable(value):
        raise _NotFound(f"{module} has no function {name}")
    return value


def _told(error: BaseException) -> str:
    said = str(error).strip().splitlines()
    return type(error).__name__ + (f": {said[0]}" if said else "")
