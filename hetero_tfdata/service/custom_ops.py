"""Loads the custom operations of a module, without which a process can't run a graph that names them."""

from __future__ import annotations

import ctypes
import importlib
import importlib.machinery
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["PRELOADED_VARIABLE", "is_installed", "load", "problem_of_loading"]

# Set for the training script by `launch`: the modules of --preload, which every host's servers have loaded.
PRELOADED_VARIABLE = "HETERO_TFDATA_PRELOADED"


def is_installed(module: str, *folders: str) -> bool:
    """Whether the module could be imported; it is not. In those folders only the first part of its name is looked for."""
    try:
        if importlib.util.find_spec(module) is not None:
            return True
    except (ImportError, ValueError):
        pass
    return importlib.machinery.PathFinder.find_spec(module.partition(".")[0], folders) is not None


def load(module: str, log: Callable[[str], None]) -> None:
    """Imports the module, which is how libraries of operations load themselves.

    TensorFlow Addons is the exception: its Python modules load their libraries only when first called, and importing them
    takes seconds. Its libraries are loaded themselves, and one that this TensorFlow can't load is only logged.
    """
    if module != "tensorflow_addons":
        importlib.import_module(module)
        return
    if not is_installed(module):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    import tensorflow as tf

    _load_cuda_runtime()
    refused = []
    for folder in _folders(module):
        for library in sorted((folder / "custom_ops").glob("*/_*_op*.so")):
            try:
                tf.load_op_library(str(library))
            except tf.errors.NotFoundError as error:
                refused.append(f"{library.name} ({error.message.rpartition(': ')[2]})")
    if refused:
        log(f"tensorflow_addons: this TensorFlow can't load {', '.join(refused)}")


def problem_of_loading(module: str, operations: Sequence[str], log: Callable[[str], None]) -> str | None:
    """Loads the module into a process that goes on whatever comes of it.

    Returns:
        None if the process can run the operations from now on, else why not.
    """
    from tensorflow.python.framework import op_def_registry

    importlib.invalidate_caches()  # the module's file may be younger than this process
    try:
        load(module, log)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            return "there is no module of that name"
        said = str(error).strip().splitlines()
        return f"importing it raised {type(error).__name__}" + (f": {said[0]}" if said else "")
    absent = [operation for operation in operations if op_def_registry.get(operation) is None]
    return f"it was imported, which registered no {', '.join(absent)}" if absent else None


def _load_cuda_runtime() -> None:
    """Most of the addons' libraries hold GPU kernels too and name symbols of the CUDA runtime (__cudaUnregisterFatBinary),
    which TensorFlow's CPU build lacks. With nvidia-cuda-runtime-cu12 installed they load there as well, without a GPU
    (probed: TF 2.15.1 + TFA 0.23.0, all 8 libraries instead of 2)."""
    if is_installed("nvidia.cuda_runtime"):
        for folder in _folders("nvidia.cuda_runtime"):
            for library in sorted((folder / "lib").glob("libcudart.so.*")):
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def _folders(module: str) -> list[Path]:
    spec = importlib.util.find_spec(module)
    return [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
