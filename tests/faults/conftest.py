"""Servers to kill."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import clean_environment, free_blocks, wait_for

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder belong to `make test-faults`, but for the matrix, all of whose cells are in `make bench-faults`."""
    for item in items:
        if item.path.is_relative_to(HERE) and item.path.name != "test_fault_matrix.py":
            item.add_marker(pytest.mark.faults)


class FragileService:
    """A dispatcher and two workers, each a process of its own; nobody starts again what a test kills."""

    def __init__(self, folder: Path) -> None:
        (first,) = free_blocks(1)
        self.address = f"grpc://127.0.0.1:{first}"
        self._commands = [["dispatcher", "--port", str(first), "--work-dir", str(folder / "journal")]]
        for port in (first + 1, first + 2):
            target, advertise = f"127.0.0.1:{first}", f"127.0.0.1:{port}"
            self._commands.append(["worker", "--port", str(port), "--dispatcher", target, "--advertise", advertise])
        self._processes = [self._started(number) for number in range(3)]

    def _started(self, number: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "hetero_tfdata.service.servers", *self._commands[number]],
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait_until_both_serve(self) -> None:
        """Until both workers are registered: a pass that begins with one may end with one."""
        from hetero_tfdata.service.readiness import DispatcherClient

        with DispatcherClient(self.address) as client:

            def both() -> bool:
                with contextlib.suppress(Exception):  # the dispatcher imports TensorFlow
                    return len(client.workers()) == 2
                return False

            wait_for(both, 120, "two workers to register")

    def kill(self, number: int) -> None:
        """0 is the dispatcher, 1 and 2 are the workers."""
        self._processes[number].kill()
        self._processes[number].communicate()

    def start_again(self, number: int) -> None:
        """On its port."""
        self._processes[number] = self._started(number)

    def end(self) -> None:
        """Workers first."""
        for number in (2, 1, 0):
            self.kill(number)


@pytest.fixture
def fragile_service(tmp_path: Path) -> Iterator[FragileService]:
    """Servers to kill."""
    service = FragileService(tmp_path)
    yield service
    service.end()
