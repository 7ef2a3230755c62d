"""One server of a host: its process, what the process says, and what it is told to import."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from hetero_tfdata.errors import ConfigurationError, NotReadyError, ServerDiedError
from hetero_tfdata.service.cache_store import CacheStore
from hetero_tfdata.service.cpus import cpu_seconds
from hetero_tfdata.service.functions import Functions
from hetero_tfdata.service.last_words import last_words
from hetero_tfdata.service.servers import ANSWER, READY
from hetero_tfdata.service.status import ServerStatus

__all__ = ["Server"]

_TAIL_LINES = 20
# glibc gives a buffer of more than 32 MB back to the system at once and asks for it anew for the next batch: each page is then
# cleared again. Keeping it saves half of a worker's CPU time for batches of 38 MB (187 -> 87 us an image on stock batches of
# 256 x 224x224x3, 92 -> 72 in chunks; 2026-11-24). What the user has set stands; older glibc knows no such threshold.
SERVER_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**28), "MALLOC_TRIM_THRESHOLD_": str(2**29), "MALLOC_TOP_PAD_": str(2**26)}
# The dispatcher's auto-scaler, which nothing here uses, warns until the first batches flow.
_NOISE = ("tf.data service AutoScaler",)


class Server:
    """One server process, and its successors on the same port.

    The supervisor's thread drives it; `status`, `load` and `serve` may be called from any thread.

    Args:
        kind: "dispatcher" or "worker".
        index: of a worker on its host.
        port: where it listens.
        arguments: the rest of its command line.
        counted: whether its batches are counted.
        modules: whose custom operations it loads before it serves.
        functions: Python functions that it finds before it serves (`Functions` as JSON).
        cache: the host's folders, open before the first start; None: it has none.
    """

    def __init__(
        self,
        kind: str,
        index: int,
        port: int,
        arguments: Sequence[str],
        *,
        counted: bool,
        modules: Sequence[str] = (),
        functions: Sequence[str] = (),
        cache: CacheStore | None = None,
    ) -> None:
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
        self.modules = tuple(modules)
        self.functions = tuple(functions)
        self._numbers = itertools.count()
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._arguments = [*arguments, "--port", str(port)]
        self._counter = os.memfd_create(f"{kind}-{index}-batches") if counted else None
        self._last_count = 0
        self._cache = cache

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
        answers = self._answers = queue.SimpleQueue()  # before its process: `load` takes them in the other order
        preload = [word for module in self.modules for word in ("--preload", module)]
        command = [sys.executable, "-m", "hetero_tfdata.service.servers", self.kind, *preload, *self._arguments]
        inherited = []
        if self.kind == "worker":
            command += [word for functions in self.functions for word in ("--functions", functions)]
        if self._counter is not None:
            command += ["--counter-fd", str(self._counter)]
            inherited = [self._counter]
        if self._cache is not None:
            command += self._cache.arguments
            inherited += self._cache.descriptors
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=inherited,
            env={**SERVER_ALLOCATOR, **os.environ},
        )
        self.started = time.time()
        threading.Thread(target=self._copy_output, args=(self.process, answers, log), daemon=True).start()

    def _copy_output(
        self, process: subprocess.Popen[bytes], answers: queue.SimpleQueue[str], log: Callable[[str], None]
    ) -> None:
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            if line == READY:
                self.has_served = True
                self.ready.set()
                continue
            if line.startswith(ANSWER):
                answers.put(line.removeprefix(ANSWER))
                continue
            if not line or any(noise in line for noise in _NOISE):
                continue
            self.tail.append(line)
            log(f"{self.name}: {line}")

    def load(self, module: str, operations: Sequence[str], deadline_s: float, unless: Callable[[], bool]) -> None:
        """Has the running process load a module's custom operations, and its successors before they serve.

        Args:
            module: what to import.
            operations: what that has to register.
            deadline_s: by time.monotonic().
            unless: asked again and again; true gives up.

        Raises:
            ConfigurationError: the module can't be imported, or lacks an operation.
            ServerDiedError: the process died of it twice.
            NotReadyError: not before the deadline, or given up.
        """

        def keep() -> None:
            if module not in self.modules:
                self.modules = (*self.modules, module)

        self._order({"module": module, "operations": list(operations)}, f"load {module}", keep, deadline_s, unless)

    def serve(self, functions: Functions, deadline_s: float, unless: Callable[[], bool]) -> None:
        """Has the running process find a graph's Python functions, and its successors before they serve; a dispatcher, which
        calls none, only remembers them for workers to come. Arguments and errors as of `load`: ConfigurationError where the
        functions found are not those of the graph."""
        text = json.dumps(functions.as_dict())

        def keep() -> None:
            if text not in self.functions:
                self.functions = (*self.functions, text)

        if self.kind == "dispatcher":
            keep()
        else:
            self._order({"functions": functions.as_dict()}, f"import {functions}", keep, deadline_s, unless)

    def _order(
        self,
        order: dict[str, Any],
        what: str,
        keep: Callable[[], None],
        deadline_s: float,
        unless: Callable[[], bool],
    ) -> None:
        """Has the running process carry an order out, and `keep` it for its successors.

        It is kept once it was carried out: one that ends the process can't end all successors too.
        """
        died: subprocess.Popen[bytes] | None = None

        def serves() -> bool:
            return self.process is not died and self.ready.is_set()

        for _ in range(2):
            self._wait(serves, what, deadline_s, unless)
            process, answers = self.process, self._answers
            assert process is not None
            answer = self._ask(process, answers, order, what, deadline_s, unless)
            if answer is None:
                died = process
                continue
            if answer["problem"] is not None:
                raise ConfigurationError(answer["problem"])
            keep()
            if self.process is process:  # else its successor began without it
                return
        raise ServerDiedError(
            f"{self.name} on port {self.port} died twice when it was to {what}; its last words: {self.last_words()}"
        )

    def _ask(
        self,
        process: subprocess.Popen[bytes],
        answers: queue.SimpleQueue[str],
        order: dict[str, Any],
        what: str,
        deadline_s: float,
        unless: Callable[[], bool],
    ) -> dict[str, Any] | None:
        """The process's answer; None where it died."""

        def answered_or_dead() -> bool:
            return not answers.empty() or process.poll() is not None

        assert process.stdin is not None
        number = next(self._numbers)
        with contextlib.suppress(OSError, ValueError):  # it has just died
            process.stdin.write(json.dumps({"number": number, **order}).encode() + b"\n")
            process.stdin.flush()
        while True:
            self._wait(answered_or_dead, what, deadline_s, unless)
            try:
                answer: dict[str, Any] = json.loads(answers.get_nowait())
            except queue.Empty:
                return None
            if answer["number"] == number:  # else it is a late one, to an earlier order
                return answer

    def _wait(self, condition: Callable[[], bool], what: str, deadline_s: float, unless: Callable[[], bool]) -> None:
        while not condition():
            if unless() or time.monotonic() > deadline_s:
                raise NotReadyError(
                    f"{self.name} on port {self.port} did not {what if self.ready.is_set() else 'serve'} in time; its last "
                    f"words: {self.last_words()}"
                )
            time.sleep(0.02)

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
            modules=self.modules,
            functions=self.functions,
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
