"""A plain tf.data service, for what distribute() is compared with, and whether hosts may have namespaces here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from hetero_tfdata.emulate.privileges import Privileges
from hetero_tfdata.errors import ConfigurationError
from support import clean_environment, free_blocks


@pytest.fixture(scope="session")
def namespaces_of_root() -> bool:
    """Whether hosts with namespaces are root's, or of a user namespace; skips where they can't be had."""
    try:
        with Privileges.acquire() as privileges:
            return privileges.is_root
    except ConfigurationError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["process", "namespace"])
def isolation(request: pytest.FixtureRequest) -> str:
    """Each kind of isolation."""
    if request.param == "namespace":
        request.getfixturevalue("namespaces_of_root")
    return request.param


@pytest.fixture(scope="module")
def stock_service() -> Iterator[str]:
    """A plain tf.data service in a process of its own, as any user of TensorFlow starts it."""
    (first,) = free_blocks(1)
    code = f"""
import tensorflow as tf
service = tf.data.experimental.service
dispatcher = service.DispatchServer(service.DispatcherConfig(port={first}))
workers = [service.WorkerServer(service.WorkerConfig(dispatcher_address="127.0.0.1:{first}",
           worker_address=f"127.0.0.1:{{port}}", port=port)) for port in ({first + 1}, {first + 2})]
print("up", flush=True)
dispatcher.join()
"""
    process = subprocess.Popen([sys.executable, "-c", code], env=clean_environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "up"
    yield f"grpc://127.0.0.1:{first}"
    process.kill()
    process.wait()
