"""Run tf.data on CPU instances beside the GPUs of a SageMaker training job: one changed line.

    from hetero_tfdata import distribute

    dataset = make_dataset(...)
    dataset = dataset.apply(distribute())

The public names are resolved when they are first used: importing this package loads no TensorFlow, boto3, sagemaker or
Horovod.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hetero_tfdata import errors
    from hetero_tfdata.cluster.topology import Cluster
    from hetero_tfdata.service.cache import Cache
    from hetero_tfdata.service.distribute import distribute
    from hetero_tfdata.service.files import files
    from hetero_tfdata.service.wire import Wire
    from hetero_tfdata.train.step_timer import StepTimer

__version__ = "0.1.0"
__all__ = ["Cache", "Cluster", "StepTimer", "Wire", "distribute", "errors", "files"]

_HOMES = {
    "Cache": "hetero_tfdata.service.cache",
    "Cluster": "hetero_tfdata.cluster.topology",
    "StepTimer": "hetero_tfdata.train.step_timer",
    "Wire": "hetero_tfdata.service.wire",
    "distribute": "hetero_tfdata.service.distribute",
    "files": "hetero_tfdata.service.files",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("hetero_tfdata.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'hetero_tfdata' has no attribute {name!r} (public names: {', '.join(__all__)})")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
