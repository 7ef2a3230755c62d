"""A job of several hosts for tests: the files and variables of each host, and the processes that run on them.

Less than the emulator on purpose, so that a fault of one does not hide a fault of the other.
"""

from __future__ import annotations

import collections
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

FOREIGN = ("SM_", "SAGEMAKER_", "OMPI_", "PMIX_", "HOROVOD_", "HETERO_TFDATA_", "TF_CONFIG", "TRAINING_JOB_NAME")


def clean_environment(**extra: str) -> dict[str, str]:
    """This process's environment without what a training job would set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return kept | {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"} | extra


def free_blocks(count: int) -> list[int]:
    """First ports of blocks of 100 in which nothing listens on the first 20, and that no other test run has just taken: its
    servers import TensorFlow before they listen, and gRPC would let two of them share a port."""
    blocks: list[int] = []
    # tests that run side by side have blocks of their own: looking at a port takes it for a moment
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    candidates = list(range(20000 + 100 * (worker % 2), 32000, 200))
    random.shuffle(candidates)
    for first in candidates:
        if all(_bindable(first + offset) for offset in range(20)) and _taken(first + 9):
            blocks.append(first)
            if len(blocks) == count:
                return blocks
    raise AssertionError("no free ports")


# This process's latest blocks: the tests before have ended, and closed sockets give their ports back.
_latest: collections.deque[socket.socket] = collections.deque(maxlen=12)


def _taken(port: int) -> bool:
    """Whether the block is this process's from now on: that port is bound, which emulators look at, and bind, too."""
    own = socket.socket()
    try:
        own.bind(("0.0.0.0", port))
    except OSError:
        own.close()
        return False
    _latest.append(own)
    return True


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


@dataclass
class TestJob:
    """A job's hosts as folders below `root`; groups are name -> hosts. All have one address, and ports of their own."""

    __test__ = False

    root: Path
    groups: dict[str, list[str]]
    distribution: list[str] = field(default_factory=list)
    address: str = "127.0.0.1"
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hosts = sorted(host for hosts in self.groups.values() for host in hosts)
        self.first_port = dict(zip(self.hosts, free_blocks(len(self.hosts)), strict=True))
        for host in self.hosts:
            base = self.base(host)
            (base / "input" / "config").mkdir(parents=True)
            (base / "output" / "data").mkdir(parents=True)
            (base / "input" / "config" / "resourceconfig.json").write_text(json.dumps(self.resource_config(host)))

    def base(self, host: str) -> Path:
        return self.root / host / "opt" / "ml"

    def resource_config(self, host: str) -> dict[str, object]:
        return {
            "current_host": host,
            "hosts": self.hosts,
            "network_interface_name": "eth0",
            "instance_groups": [
                {"instance_group_name": name, "instance_type": "ml.c5.18xlarge", "hosts": hosts}
                for name, hosts in self.groups.items()
            ],
        }

    def environment(self, host: str, **extra: str) -> dict[str, str]:
        addresses = {name: f"{self.address}:{port}" for name, port in self.first_port.items()}
        return clean_environment(
            SAGEMAKER_BASE_DIR=str(self.base(host)),
            HETERO_TFDATA_ADDRESSES=json.dumps(addresses),
            SM_DISTRIBUTION_INSTANCE_GROUPS=json.dumps(self.distribution),
            TRAINING_JOB_NAME=f"test-{self.root.name}",
            TMPDIR=str(self.root),  # what killed processes leave there goes with the test
            **extra,
        )

    def start(self, host: str, *command: str, name: str | None = None, **extra: str) -> subprocess.Popen[str]:
        """Starts a command on a host; its output goes to ROOT/NAME.log."""
        name = name or host
        with open(self.root / f"{name}.log", "w") as log:
            process = subprocess.Popen(
                command,
                env=self.environment(host, **extra),
                cwd=self.root,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def launch(self, host: str, script: Path, *arguments: str, name: str | None = None, **extra: str) -> None:
        """Starts `hetero-tfdata launch SCRIPT ARGUMENTS` on a host."""
        command = [sys.executable, "-m", "hetero_tfdata", "launch", *arguments, str(script)]
        self.start(host, *command, name=name, **extra)

    def wait(self, timeout_s: float) -> dict[str, int]:
        """Exit codes by name; fails with the logs of those that are still running."""
        deadline = time.monotonic() + timeout_s
        codes = {}
        for name, process in self.processes.items():
            try:
                codes[name] = process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{name} still runs after {timeout_s} s\n{self.logs()}") from None
        return codes

    def log(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text()

    def logs(self) -> str:
        return "\n".join(f"--- {name}\n{self.log(name)[-3000:]}" for name in self.processes)

    def failure(self, host: str) -> str:
        path = self.base(host) / "output" / "failure"
        return path.read_text() if path.exists() else ""

    def report(self, host: str) -> dict[str, object]:
        return json.loads((self.base(host) / "output" / "data" / "hetero_tfdata" / f"{host}.json").read_text())

    def end(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def children_of(pid: int) -> dict[int, list[str]]:
    """The living descendants of a process: pid -> command line."""
    import psutil

    found = {}
    for process in psutil.Process(pid).children(recursive=True):
        try:
            found[process.pid] = process.cmdline()
        except psutil.NoSuchProcess:
            continue
    return found


def addons_library() -> Path:
    """A library of operations, of TensorFlow Addons; skips without them, and where it is of another TensorFlow (0.22's is of
    2.13, and 2.12 can't load it)."""
    import pytest

    addons, tf = pytest.importorskip("tensorflow_addons"), pytest.importorskip("tensorflow")
    library = Path(addons.__file__).parent / "custom_ops" / "text" / "_parse_time_op.so"
    try:
        tf.load_op_library(str(library))
    except tf.errors.NotFoundError as error:
        pytest.skip(f"TensorFlow Addons' libraries are of another TensorFlow: {str(error)[:100]}")
    return library


def wait_for(condition, timeout_s: float, what: str):
    """The condition's first true value."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout_s} s for {what}")
