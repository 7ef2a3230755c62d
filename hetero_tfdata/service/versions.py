"""TensorFlow's versions on the two sides of the wire: the trainer's graph runs in the workers' TensorFlow."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from importlib import metadata

from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.errors import JobError
from hetero_tfdata.service.status import ask_status

__all__ = ["installed_tensorflow", "other_tensorflows"]

# The same package under the names of its builds.
_DISTRIBUTIONS = ("tensorflow", "tensorflow-cpu", "tensorflow-cpu-aws", "tf-nightly")
_ASK_S = 5.0


@functools.cache
def installed_tensorflow() -> str | None:
    """The version that this interpreter's processes import, "2.15.1", without importing it; None if it can't be told."""
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return None


def other_tensorflows(here: str, hosts: Sequence[Host]) -> dict[str, str]:
    """Host -> version, of the hosts with another TensorFlow than 2.x of "2.x.y"; a host that does not tell is left out."""
    others = {}
    for host in hosts:
        with contextlib.suppress(JobError):
            there = ask_status(host, _ASK_S).tensorflow
            if there is not None and there.split(".")[:2] != here.split(".")[:2]:
                others[host.name] = there
    return others
