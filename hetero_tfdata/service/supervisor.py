"""Owns server processes: starts them, restarts them in place, keeps their last words, ends them in the right order."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

from hetero_tfdata.cluster.instances import instance
from hetero_tfdata.cluster.topology import Cluster, Host, Role
from hetero_tfdata.errors import ConfigurationError, HeteroTFDataError, NotReadyError, PortInUseError, ServerDiedError
from hetero_tfdata.service.cache_store import CacheStore
from hetero_tfdata.service.cpus import usable_cpus
from hetero_tfdata.service.custom_ops import is_installed
from hetero_tfdata.service.demand import Demand
from hetero_tfdata.service.functions import Functions
from hetero_tfdata.service.port_owner import owner_of_port
from hetero_tfdata.service.server_process import Server
from hetero_tfdata.service.servers import EXIT_PORT_IN_USE, is_port_free
from hetero_tfdata.service.status import ServerStatus
from hetero_tfdata.service.worker_count import worker_count

__all__ = ["RestartPolicy", "Server", "Supervisor", "usable_cpus", "worker_count"]


@dataclass(frozen=True)
class RestartPolicy:
    """How often a server may die before the host gives up.

    Attributes:
        max_restarts: per server and window.
        max_failed_starts: of a server that has not served yet; what fails at the start mostly fails again. What was killed from
            outside (SIGKILL) did not fail: for it max_restarts holds.
        window_s: deaths longer ago than this are forgotten.
        backoff_s: wait before the first restart in a window, doubled for each further one, at most 8 s. A new server
            needs about 4 s to import TensorFlow anyway.
    """

    max_restarts: int = 5
    max_failed_starts: int = 2
    window_s: float = 300.0
    backoff_s: float = 0.25


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
        more_workers: Callable[[int, Sequence[Server]], Sequence[Server]] = lambda count, besides: (),
        cache: CacheStore | None = None,
    ) -> None:
        self.servers = tuple(servers)
        self.failure: HeteroTFDataError | None = None
        self._log = log
        self._policy = policy or RestartPolicy()
        self._on_failure = on_failure
        self._work_dir = work_dir
        self._more_workers = more_workers
        self._meeting = threading.Lock()
        self._cache = cache
        self._cache_report: dict[str, object] | None = None
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
        modules_in: str | None = None,
        functions: Sequence[str] = (),
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
            modules_in: a folder where they find modules besides the usual places: that of the training script.
            functions: Python functions that workers find before they serve (`Functions` as JSON).
            workers: worker processes; by default as many as `worker_count` says for the CPUs the host may use and, on a data
                host, the link of its instance type. (On a training host most readers are on the host itself, each with flows
                of its own.)
            on_failure: called from another thread, once for each server that can't be kept running.
            policy: how often a server may die.
            niceness: added to the servers' own, from 0 to 19: how far they stand back behind other processes of this host;
                above 0 they are also the first that are killed when memory runs out.

        Raises:
            PortInUseError: the dispatcher's port, or too many ports of the workers' range, are taken.
            ConfigurationError: a module to preload is not installed, or the dispatcher has no folder to write its journal in.
        """
        modules = list(dict.fromkeys([*preload, *(["tensorflow_addons"] if is_installed("tensorflow_addons") else [])]))
        folders = [modules_in] if modules_in else []
        for module in modules:
            if not is_installed(module, *folders):
                raise ConfigurationError(f"--preload {module}: expected an installed module, there is none of that name")
        common = [word for folder in folders for word in ("--modules-in", folder)]
        common += [word for host in cluster.hosts for word in ("--member", host.address)]
        common += ["--niceness", str(niceness)] if niceness else []
        here, dispatcher = cluster.here, cluster.dispatcher_host
        assert dispatcher is not None
        target = f"{dispatcher.address}:{dispatcher.dispatcher_port}"
        cache = CacheStore(log)

        def more_workers(count: int, besides: Sequence[Server]) -> list[Server]:
            index = sum(server.kind == "worker" for server in besides)
            loads = besides[0].modules if besides else modules
            serves = besides[0].functions if besides else functions
            return [
                Server(
                    "worker",
                    index + number,
                    port,
                    ["--dispatcher", target, "--advertise", f"{here.address}:{port}", *common],
                    counted=True,
                    modules=loads,
                    functions=serves,
                    cache=cache,
                )
                for number, port in enumerate(_free_ports(here, count, {server.port for server in besides}))
            ]

        known = instance(cluster.group.instance_type) if cluster.role is Role.DATA else None
        servers = more_workers(workers or worker_count(usable_cpus(), known.baseline_gbps if known else None), ())
        work_dir = None
        if here == dispatcher:
            if not is_port_free(here.dispatcher_port):
                raise PortInUseError(
                    f"the dispatcher's port {here.dispatcher_port} on {here.name} is in use by "
                    f"{owner_of_port(here.dispatcher_port)}; end that program, or give this host another block of ports "
                    "(HETERO_TFDATA_ADDRESSES, on every host)"
                )
            try:
                work_dir = tempfile.mkdtemp(prefix="hetero-tfdata-dispatcher-")
            except OSError as error:
                raise ConfigurationError(
                    f"no folder for the dispatcher's journal on {here.name}: {error}; have TMPDIR name one on a local disk "
                    "that has room"
                ) from None
            arguments = ["--work-dir", work_dir, *common]
            servers = [
                Server("dispatcher", 0, here.dispatcher_port, arguments, counted=False, modules=modules, functions=functions),
                *servers,
            ]
        return cls(
            servers, log=log, policy=policy, on_failure=on_failure, work_dir=work_dir, more_workers=more_workers, cache=cache
        )

    def __enter__(self) -> Supervisor:
        if self._cache is not None:
            self._cache.open()
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

    def meet(self, demand: Demand, timeout_s: float) -> None:
        """Has the servers do what a dataset demands: load libraries, import Python functions, be more workers. From any thread.

        Nothing is restarted, so that streams that are being read go on. Workers only come: tf.data service gives a new one its
        share of what is left of an epoch, but waits for ever for one that has gone. A demand of fewer changes nothing.

        Args:
            demand: what.
            timeout_s: seconds until the error.

        Raises:
            ConfigurationError: a module can't be loaded, or Python functions are not those of the graph.
            PortInUseError: there are not as many ports for workers.
            NotReadyError: not before the deadline, or these servers are being ended.
            ServerDiedError: a server can't be kept running.
        """
        deadline = time.monotonic() + timeout_s
        if not self._meeting.acquire(timeout=timeout_s):
            raise NotReadyError(f"other demands were not met within {timeout_s:.0f} s")
        try:
            for module, operations in demand.libraries.items():
                self._load(module, operations, deadline)
            if demand.functions is not None:
                self._serve(demand.functions, deadline)
            if demand.workers is not None:
                self._grow(demand.workers)
                self.wait_until_ready(deadline - time.monotonic(), unless=self._stopping.is_set)
        finally:
            self._meeting.release()

    def _load(self, module: str, operations: Sequence[str], deadline_s: float) -> None:
        """Has all servers load a library, side by side."""

        def load(server: Server) -> None:
            server.load(module, operations, deadline_s, lambda: server.given_up or self._stopping.is_set())

        is_new = any(module not in server.modules for server in self.servers if not server.given_up)
        named = ", ".join(operations) or "operations"
        try:
            self._side_by_side(load)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"can't load {module}, whose {named} the dataset needs: {error}. Instead: install it on every host, or put it "
                "beside the training script"
            ) from None
        if is_new:
            self._log(f"the servers have loaded {module}, whose {named} a dataset needs")

    def _serve(self, functions: Functions, deadline_s: float) -> None:
        """Has all workers find a graph's Python functions, side by side."""

        def serve(server: Server) -> None:
            server.serve(functions, deadline_s, lambda: server.given_up or self._stopping.is_set())

        try:
            self._side_by_side(serve)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"can't run {functions} as the dataset means it: {error}. Instead: the same source folder and packages on "
                "every host"
            ) from None
        self._log(f"the workers have imported {functions}, which a dataset calls")

    def _side_by_side(self, do: Callable[[Server], None]) -> None:
        """Does it with all servers, each in a thread; raises the first error."""
        servers = [server for server in self.servers if not server.given_up]
        with ThreadPoolExecutor(max(1, len(servers))) as pool:
            doing = [pool.submit(do, server) for server in servers]
        try:
            for one in doing:
                one.result()
        except NotReadyError as error:
            raise self.failure or error from None

    def _grow(self, workers: int) -> None:
        with self._lock:
            if self._stopping.is_set():
                return
            there = sum(server.kind == "worker" for server in self.servers)
            if workers < there:
                self._log(f"keeps its {there} workers, where a dataset asks for {workers}: streams may wait for one that goes")
            if workers > there:
                more = self._more_workers(workers - there, self.servers)
                for server in more:
                    server.start(self._log)
                self.servers = (*self.servers, *more)
                self._log(f"{workers} workers instead of {there}: a dataset asks for them")

    def report(self) -> list[dict[str, object]]:
        """One entry a worker: index, port, restarts, batches_served."""
        return [
            {"index": s.index, "port": s.port, "restarts": s.restarts, "batches_served": s.batches_served}
            for s in self.servers
            if s.kind == "worker"
        ]

    def cache_report(self) -> dict[str, object] | None:
        """What the workers looked up and kept (`CacheCounts` and saved_s), once they have ended; None without a cache."""
        return self._cache_report

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
            if self._cache is not None:
                self._cache.close()
                self._cache_report = self._cache.report()
            if self._work_dir is not None:
                shutil.rmtree(self._work_dir, ignore_errors=True)

    def close(self) -> None:
        """Closes the counters; to be called last."""
        for server in self.servers:
            server.close()

    def _watch(self) -> None:
        while not self._stopping.wait(timeout=0.1):
            if self._cache is not None:
                self._cache.poll()
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
            raise PortInUseError(f"{server.name}: port {server.port} is in use by {owner_of_port(server.port)}")
        server.deaths.append(now)
        while server.deaths and now - server.deaths[0] > self._policy.window_s:
            server.deaths.popleft()
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        has_failed = not server.has_served and code != -signal.SIGKILL
        allowed = self._policy.max_failed_starts - 1 if has_failed else self._policy.max_restarts
        if len(server.deaths) > allowed:
            raise ServerDiedError(
                f"{server.name} on port {server.port} died {len(server.deaths)} times within "
                f"{self._policy.window_s:.0f} s and is not started again (it {how}); its last words: {server.last_words()}"
            )
        wait_s = min(8.0, self._policy.backoff_s * 2 ** (len(server.deaths) - 1))
        self._log(f"{server.name} {how}; starting it again on port {server.port} in {wait_s:.2g} s")
        server.restart_at = now + wait_s


def _free_ports(host: Host, count: int, taken: Container[int]) -> list[int]:
    """Ports for that many workers; those taken may not be listened on yet."""
    free: list[int] = []
    for port in host.worker_ports:
        if len(free) == count:
            break
        if port not in taken and is_port_free(port):
            free.append(port)
    if len(free) < count:
        ports = host.worker_ports
        raise PortInUseError(
            f"expected {count} free ports for workers on {host.name} between {ports[0]} and {ports[-1]}, found "
            f"{len(free)}; end the programs that hold them, or give this host another block (HETERO_TFDATA_ADDRESSES)"
        )
    return free
