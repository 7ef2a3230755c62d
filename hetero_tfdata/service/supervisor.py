"""Owns server processes: starts them, restarts them in place, keeps their last words, ends them in the right order."""

from __future__ import annotations

import collections
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from hetero_tfdata.cluster.instances import instance
from hetero_tfdata.cluster.topology import Cluster, Host, Role
from hetero_tfdata.errors import ConfigurationError, HeteroTFDataError, NotReadyError, PortInUseError, ServerDiedError
from hetero_tfdata.service.cpus import cpu_seconds, usable_cpus
from hetero_tfdata.service.custom_ops import is_installed
from hetero_tfdata.service.last_words import last_words
from hetero_tfdata.service.servers import EXIT_PORT_IN_USE, READY, is_port_free
from hetero_tfdata.service.status import ServerStatus
from hetero_tfdata.service.worker_count import worker_count

__all__ = ["RestartPolicy", "Server", "Supervisor", "usable_cpus", "worker_count"]

_TAIL_LINES = 20
# glibc gives a buffer of more than 32 MB back to the system at once and asks for it anew for the next batch: each page is then
# cleared again. Keeping it saves half of a worker's CPU time for batches of 38 MB (187 -> 87 us an image on stock batches of
# 256 x 224x224x3, 92 -> 72 in chunks; 2026-11-24). What the user has set stands; older glibc knows no such threshold.
SERVER_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**28), "MALLOC_TRIM_THRESHOLD_": str(2**29), "MALLOC_TOP_PAD_": str(2**26)}
# The dispatcher's auto-scaler, which nothing here uses, warns until the first batches flow.
_NOISE = ("tf.data service AutoScaler",)


@dataclass(frozen=True)
class RestartPolicy:
    """How often a server may die before the host gives up.

    Attributes:
        max_restarts: per server and window.
        max_failed_starts: of a server that has not served yet; what fails at the start mostly fails again.
        window_s: deaths longer ago than this are forgotten.
        backoff_s: wait before the first restart in a window, doubled for each further one, at most 8 s. A new server
            needs about 4 s to import TensorFlow anyway.
    """

    max_restarts: int = 5
    max_failed_starts: int = 2
    window_s: float = 300.0
    backoff_s: float = 0.25


class Server:
    """One server process, and its successors on the same port. Not thread-safe: the supervisor's thread drives it."""

    def __init__(self, kind: str, index: int, port: int, arguments: Sequence[str], *, counted: bool) -> None:
        self.kind = kind
        self.index = index
        self.port = port
        self.restarts = 0
        self.given_up = False
        self.ready = threading.Event()
        self.has_served = False
        self.tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
        self.deaths: collections.deque[float] = collections.deque()
        self.restart_at: float | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.started: float | None = None
        self._arguments = [*arguments, "--port", str(port)]
        self._counter = os.memfd_create(f"{kind}-{index}-batches") if counted else None
        self._last_count = 0

    @property
    def name(self) -> str:
        """For logs: "dispatcher", "worker 0"."""
        return self.kind if self.kind == "dispatcher" else f"{self.kind} {self.index}"

    @property
    def batches_served(self) -> int:
        """Batches that this server's processes have produced so far, counted inside them."""
        counter = self._counter
        return self._last_count if counter is None else os.fstat(counter).st_size

    def start(self, log: Callable[[str], None]) -> None:
        """Starts the process and a thread that copies its output to the log."""
        self.ready.clear()
        command = [sys.executable, "-m", "hetero_tfdata.service.servers", self.kind, *self._arguments]
        inherited = []
        if self._counter is not None:
            command += ["--counter-fd", str(self._counter)]
            inherited = [self._counter]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=inherited,
            env={**SERVER_ALLOCATOR, **os.environ},
        )
        self.started = time.time()
        threading.Thread(target=self._copy_output, args=(self.process, log), daemon=True).start()

    def _copy_output(self, process: subprocess.Popen[bytes], log: Callable[[str], None]) -> None:
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            if line == READY:
                self.has_served = True
                self.ready.set()
                continue
            if not line or any(noise in line for noise in _NOISE):
                continue
            self.tail.append(line)
            log(f"{self.name}: {line}")

    def status(self) -> ServerStatus:
        """How it is now; may be called from any thread."""
        process = self.process
        used_s = cpu_seconds(process.pid) if process is not None and process.poll() is None else None
        alive = used_s is not None
        return ServerStatus(
            name=self.name,
            port=self.port,
            alive=alive,
            ready=alive and self.ready.is_set(),
            restarts=self.restarts,
            batches_served=self.batches_served,
            cpu_s=used_s or 0.0,
            started=self.started if alive else None,
        )

    def last_words(self) -> str:
        """What it said last, as one line."""
        return last_words("\n".join(self.tail)) or "(it said nothing)"

    def close(self) -> None:
        """Closes the counter; its last count stays."""
        self._last_count = self.batches_served
        counter, self._counter = self._counter, None
        if counter is not None:
            os.close(counter)


class Supervisor:
    """The servers of one host.

    `with` starts them and ends them: workers first, then the dispatcher, so that no worker reports to a dispatcher that is
    gone. A thread watches them; when a server has died too often it is given up, `failure` holds the first such error and
    `on_failure` is called. The others are watched as before.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        *,
        log: Callable[[str], None],
        policy: RestartPolicy | None = None,
        on_failure: Callable[[HeteroTFDataError], None] | None = None,
        work_dir: str | None = None,
    ) -> None:
        self.servers = tuple(servers)
        self.failure: HeteroTFDataError | None = None
        self._log = log
        self._policy = policy or RestartPolicy()
        self._on_failure = on_failure
        self._work_dir = work_dir
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    @classmethod
    def for_host(
        cls,
        cluster: Cluster,
        *,
        log: Callable[[str], None],
        preload: Sequence[str] = (),
        workers: int | None = None,
        on_failure: Callable[[HeteroTFDataError], None] | None = None,
        policy: RestartPolicy | None = None,
        niceness: int = 0,
    ) -> Supervisor:
        """The servers that belong on this host: workers, and the dispatcher if this is the dispatcher host.

        Args:
            cluster: who this host is.
            log: takes each line of the servers' output.
            preload: modules whose custom operations the servers load before they serve.
            workers: worker processes; by default as many as `worker_count` says for the CPUs the host may use and, on a data
                host, the link of its instance type. (On a training host most readers are on the host itself, each with flows
                of its own.)
            on_failure: called from another thread, once for each server that can't be kept running.
            policy: how often a server may die.
            niceness: added to the servers' own, from 0 to 19: how far they stand back behind other processes of this host;
                above 0 they are also the first that are killed when memory runs out.

        Raises:
            PortInUseError: the dispatcher's port, or all ports of the workers' range, are taken.
            ConfigurationError: a module to preload is not installed.
        """
        preload = [*preload, *(["tensorflow_addons"] if is_installed("tensorflow_addons") else [])]
        for module in preload:
            if not is_installed(module):
                raise ConfigurationError(f"--preload {module}: expected an installed module, there is none of that name")
        common = [word for module in preload for word in ("--preload", module)]
        common += ["--niceness", str(niceness)] if niceness else []
        here, dispatcher = cluster.here, cluster.dispatcher_host
        assert dispatcher is not None
        known = instance(cluster.group.instance_type) if cluster.role is Role.DATA else None
        worker_ports = _free_ports(here, workers or worker_count(usable_cpus(), known.baseline_gbps if known else None))
        servers = []
        work_dir = None
        if here == dispatcher:
            if not is_port_free(here.dispatcher_port):
                raise PortInUseError(
                    f"the dispatcher's port {here.dispatcher_port} on {here.name} is in use by another program; end that "
                    "program, or give this host another block of ports (HETERO_TFDATA_ADDRESSES, on every host)"
                )
            work_dir = tempfile.mkdtemp(prefix="hetero-tfdata-dispatcher-")
            servers.append(Server("dispatcher", 0, here.dispatcher_port, ["--work-dir", work_dir, *common], counted=False))
        target = f"{dispatcher.address}:{dispatcher.dispatcher_port}"
        for index, port in enumerate(worker_ports):
            arguments = ["--dispatcher", target, "--advertise", f"{here.address}:{port}", *common]
            servers.append(Server("worker", index, port, arguments, counted=True))
        return cls(servers, log=log, policy=policy, on_failure=on_failure, work_dir=work_dir)

    def __enter__(self) -> Supervisor:
        for server in self.servers:
            server.start(self._log)
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def batches_served(self) -> int:
        """Batches that all workers of the host have produced."""
        return sum(server.batches_served for server in self.servers)

    def wait_until_ready(self, timeout_s: float, *, unless: Callable[[], bool] = lambda: False) -> None:
        """Returns when every server serves, or when it is no longer worth waiting.

        Args:
            timeout_s: seconds until the error.
            unless: asked again and again; true ends the wait.

        Raises:
            NotReadyError: not before the deadline; names the server and its last words.
            ServerDiedError, PortInUseError: a server can't be kept running.
        """
        deadline = time.monotonic() + timeout_s
        for server in self.servers:
            while not server.ready.wait(timeout=0.1) and not unless():
                if self.failure is not None:
                    raise self.failure
                if time.monotonic() > deadline:
                    raise NotReadyError(
                        f"{server.name} on port {server.port} did not serve within {timeout_s:.0f} s; its last words: "
                        f"{server.last_words()}"
                    )

    def report(self) -> list[dict[str, object]]:
        """One entry a worker: index, port, restarts, batches_served."""
        return [
            {"index": s.index, "port": s.port, "restarts": s.restarts, "batches_served": s.batches_served}
            for s in self.servers
            if s.kind == "worker"
        ]

    def status(self) -> list[ServerStatus]:
        """How each server is now; may be called from any thread."""
        return [server.status() for server in self.servers]

    def stop(self, grace_s: float = 3.0) -> None:
        """Ends all servers, workers first; kills what is left after the grace time. May be called again."""
        self._stopping.set()
        if self._watcher.is_alive() and self._watcher is not threading.current_thread():
            self._watcher.join()
        with self._lock:
            for kind in ("worker", "dispatcher"):
                processes = [s.process for s in self.servers if s.kind == kind and s.process is not None]
                for process in processes:
                    process.send_signal(signal.SIGTERM)
                deadline = time.monotonic() + grace_s
                for process in processes:
                    try:
                        process.wait(timeout=max(0.0, deadline - time.monotonic()))
                    except subprocess.TimeoutExpired:
                        process.kill()
                        process.wait()
                    if process.stdin is not None:
                        process.stdin.close()
            if self._work_dir is not None:
                shutil.rmtree(self._work_dir, ignore_errors=True)

    def close(self) -> None:
        """Closes the counters; to be called last."""
        for server in self.servers:
            server.close()

    def _watch(self) -> None:
        while not self._stopping.wait(timeout=0.1):
            for server in self.servers:
                if server.given_up:
                    continue
                try:
                    self._tend(server)
                except HeteroTFDataError as error:
                    server.given_up = True
                    self.failure = self.failure or error
                    if self._on_failure is not None:
                        self._on_failure(error)

    def _tend(self, server: Server) -> None:
        now = time.monotonic()
        if server.restart_at is not None:
            if now >= server.restart_at:
                server.restart_at = None
                server.restarts += 1
                server.start(self._log)
            return
        assert server.process is not None
        code = server.process.poll()
        if code is None:
            return
        server.ready.clear()
        if server.process.stdin is not None:
            server.process.stdin.close()
        if code == EXIT_PORT_IN_USE:
            raise PortInUseError(f"{server.name}: port {server.port} is in use by another program")
        server.deaths.append(now)
        while server.deaths and now - server.deaths[0] > self._policy.window_s:
            server.deaths.popleft()
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        allowed = self._policy.max_restarts if server.has_served else self._policy.max_failed_starts - 1
        if len(server.deaths) > allowed:
            raise ServerDiedError(
                f"{server.name} on port {server.port} died {len(server.deaths)} times within "
                f"{self._policy.window_s:.0f} s and is not started again (it {how}); its last words: {server.last_words()}"
            )
        wait_s = min(8.0, self._policy.backoff_s * 2 ** (len(server.deaths) - 1))
        self._log(f"{server.name} {how}; starting it again on port {server.port} in {wait_s:.2g} s")
        server.restart_at = now + wait_s


def _free_ports(host: Host, count: int) -> list[int]:
    free: list[int] = []
    for port in host.worker_ports:
        if len(free) == count:
            break
        if is_port_free(port):
            free.append(port)
    if len(free) < count:
        ports = host.worker_ports
        raise PortInUseError(
            f"expected {count} free ports for workers on {host.name} between {ports[0]} and {ports[-1]}, found "
            f"{len(free)}; end the programs that hold them, or give this host another block (HETERO_TFDATA_ADDRESSES)"
        )
    return free
