"""Libraries of custom operations that the graph needs.

TensorFlow makes a Python module without a file for each library that it loads (tf.load_op_library), with an attribute for
each of its operations. What the workers have to import is the package that holds on to that module. distribute() has the job's
own hosts import it; the servers of somebody else have to have done so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import tensorflow as tf

from hetero_tfdata.service.preflight.finding import Finding, Job
from hetero_tfdata.service.preflight.graph import Graph

__all__ = ["custom_operations", "importable"]

_SCRIPT = "__main__"


def custom_operations(graph: Graph, job: Job) -> Iterator[Finding]:
    """Operations of libraries that the workers are not known to load."""
    for package, operations in _needed(graph).items():
        if any(package == one or package.startswith(f"{one}.") for one in job.preloaded):
            continue
        listed = ", ".join(f"{operation} in {where}" for operation, where in sorted(operations.items()))
        if package == _SCRIPT:
            meaning = "a worker needs their library, which this script loads itself"
            way_out = "load the library in a module that can be imported on every host"
            preload = "" if job.takes_demands else ", and start each with `hetero-tfdata launch --preload MODULE`"
            yield Finding("custom-operations", listed, meaning, way_out + preload)
        elif not job.takes_demands:
            meaning = f"a worker needs the library of {package}"
            yield Finding(
                "custom-operations", listed, meaning, f"start every host with `hetero-tfdata launch --preload {package}`"
            )


def importable(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Module -> operations, of the libraries that a worker gets by importing a module."""
    return {package: tuple(sorted(found)) for package, found in _needed(graph).items() if package != _SCRIPT}


def _needed(graph: Graph) -> dict[str, dict[str, str]]:
    """Module -> operation -> where the graph has it; "__main__" for a library that no module holds on to."""
    operations: dict[str, str] = {}
    for where, node in graph.operations():
        if not hasattr(tf.raw_ops, node.op):  # which has what TensorFlow itself registers, but for a few that it hides
            operations.setdefault(node.op, where)
    needed: dict[str, dict[str, str]] = {}
    libraries = [module for module in _modules() if getattr(module, "_IS_TENSORFLOW_PLUGIN", False)] if operations else []
    for library in libraries:
        names = vars(library)
        found = {one: where for one, where in operations.items() if one.replace(">", "_") in names}
        if found:
            needed.setdefault(_package(library), {}).update(found)
    return needed


def _package(library: ModuleType) -> str:
    """What to import for the library: the module that holds on to it, itself or in a loader (TensorFlow Addons' LazySO)."""
    for module in _modules():
        if module is library or module.__name__ == _SCRIPT or module.__name__.startswith("hetero_tfdata."):
            continue
        for value in list(vars(module).values()):
            inside = () if isinstance(value, (type, ModuleType)) else getattr(value, "__dict__", None) or ()
            if value is library or (isinstance(inside, dict) and any(one is library for one in inside.values())):
                # of TensorFlow Addons the servers load all libraries; its modules don't when they are imported
                return "tensorflow_addons" if module.__name__.startswith("tensorflow_addons.") else module.__name__
    return _SCRIPT


def _modules() -> list[ModuleType]:
    return [module for module in sys.modules.values() if isinstance(module, ModuleType)]
