"""MODULE:FUNCTION on a command line: a function of the user's, looked up from the current folder."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from hetero_tfdata.errors import ConfigurationError

__all__ = ["dataset_of", "function_of", "reason"]


def function_of(place: str) -> Callable[..., Any]:
    """The function.

    Raises:
        ConfigurationError: there is none, or its module can't be imported.
    """
    module_name, colon, name = place.partition(":")
    if not (module_name and colon and name):
        raise ConfigurationError(f"expected MODULE:FUNCTION such as train:make_dataset, got {place!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigurationError(f"{place}: importing {module_name} failed: {reason(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigurationError(f"{place}: expected a function {name} in {module_name}, there is none")
    found: Callable[..., Any] = function
    return found


def dataset_of(place: str) -> Any:
    """The tf.data.Dataset that the function returns when it is called without arguments.

    Raises:
        ConfigurationError: it returns something else, or fails; or TensorFlow is missing.
    """
    try:
        import tensorflow as tf
    except ImportError:
        raise ConfigurationError("this needs TensorFlow: pip install 'hetero-tfdata[tensorflow]'") from None
    make = function_of(place)
    try:
        dataset = make()
    except Exception as error:
        raise ConfigurationError(f"{place}: calling it without arguments failed: {reason(error)}") from error
    if not isinstance(dataset, tf.data.Dataset):
        raise ConfigurationError(f"{place}: expected it to return a tf.data.Dataset, got {type(dataset).__name__}")
    return dataset


def reason(error: Exception) -> str:
    """The exception in one line, with the place that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text} ({os.path.basename(frame.filename)}:{frame.lineno})"
