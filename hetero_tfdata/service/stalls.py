"""The stall watchdog: no training waits for its input for ever, and none without a word.

TensorFlow waits in silence for a dead worker, an unroutable address or a file that does not come. A thread of the trainer's
process looks at what the dataset's iterators do (pulse.py), and whether anybody waits for them (blocked.py). After 10 s of both
it looks at the service, and the log says what is the matter:

    no workers     the dispatcher knows none
    unreachable    the dispatcher, or a worker that it knows, takes no connection
    slow           the workers work: more CPUs, or a cheaper graph
    starved        the workers can be reached and have nothing to do: their own source gives them nothing
    unknown        they can be reached; nobody tells whether they work (a service that is not this job's own)

Slow is no failure, however long it lasts. With any other the process ends at the deadline: StalledError in the main thread
where Python has control, and where it hasn't, because `model.fit` or `next` wait inside TensorFlow, exit code 1, with the error
on standard error and in the failure file.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import grpc

from hetero_tfdata.cluster import sagemaker
from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.errors import JobError, StalledError
from hetero_tfdata.service.blocked import Blocked
from hetero_tfdata.service.pulse import Pulse
from hetero_tfdata.service.readiness import DispatcherClient, connection_problem
from hetero_tfdata.service.status import HostStatus, ask_status, reason_of

if TYPE_CHECKING:
    from hetero_tfdata.service.fallback import Fallback

__all__ = ["Diagnosis", "Stall", "Stream", "diagnose", "watch"]

FIRST_WORD_S = 10.0
NEXT_WORD_S = 30.0
# A stream that can do without its service has waited for it long enough.
LOST_AFTER_S = 30.0
# Between the exception in the main thread and the end of the process, for who catches it to write a checkpoint.
_GRACE_S = 10.0
_POLL_S = 1.0
_LAST_LOOK_S = 10.0  # longer than a call to a host takes at most
_SAMPLE_S = 2.0  # between the two looks at the workers' CPU seconds
_STATUS_TIMEOUT_S = 3.0
# An idle worker process uses 0.01 CPUs for its heartbeats (measured, TF 2.15.1).
_IDLE_CPUS = 0.1

_log = logging.getLogger("hetero_tfdata")


class Stall(str, Enum):
    """Why no element comes."""

    NO_WORKERS = "no workers"
    UNREACHABLE = "unreachable"
    SLOW = "slow"
    STARVED = "starved source"
    UNKNOWN = "unknown"


_LOSSES = (Stall.NO_WORKERS, Stall.UNREACHABLE)


@dataclass(frozen=True)
class Diagnosis:
    """What was found, in a sentence, and the next move."""

    stall: Stall
    found: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.stall.value}: {self.found}. {self.way_out}"


@dataclass
class Stream:
    """One distributed dataset of this process.

    Attributes:
        name: as the log calls it.
        pulse: of its iterators.
        service: "grpc://host:port" of the dispatcher.
        hosts: who serves it and can be asked how it is; none for a service that is not the job's own.
        timeout_s: how long an iterator may wait for a reason other than slowness.
        note: a sentence that belongs to each diagnosis.
        fallback: what makes its elements where the service is lost; None: nothing does.
        beside: called by the watching thread about once a second.
        at_end: called when the process ends, after the last of those.
    """

    name: str
    pulse: Pulse
    service: str
    hosts: Sequence[Host]
    timeout_s: float
    note: str = ""
    fallback: Fallback | None = None
    beside: Callable[[], None] = lambda: None
    at_end: Callable[[], None] = lambda: None
    _waited_s: dict[str, float] = field(default_factory=dict)
    _next_word_s: dict[str, float] = field(default_factory=dict)
    _stalled_since_s: dict[str, float] = field(default_factory=dict)

    def look(self, blocked_s: float = math.inf) -> StalledError | None:
        """Speaks of an iterator that waits; the error where the deadline is over.

        Args:
            blocked_s: for how long somebody has waited inside TensorFlow; a buffer that asks for itself waits for nobody.
        """
        if self.fallback is not None and self.fallback.is_lost:
            return None
        waiting = {number: min(waited_s, blocked_s) for number, waited_s in self.pulse.waiting_s().items()}
        for number in [number for number, waited_s in self._waited_s.items() if waiting.get(number, 0.0) < waited_s]:
            # another wait
            self._next_word_s.pop(number, None)
            self._stalled_since_s.pop(number, None)
        self._waited_s = waiting
        for number, waited_s in waiting.items():
            stalled_since_s = self._stalled_since_s.setdefault(number, 0.0)
            over = waited_s - stalled_since_s >= self.timeout_s
            if not over and waited_s < self._next_word_s.get(number, FIRST_WORD_S):
                continue
            found = diagnose(self.service, self.hosts)
            if self.note:
                found = Diagnosis(found.stall, found.found, f"{found.way_out}. {self.note}")
            self._next_word_s[number] = waited_s + NEXT_WORD_S
            if self.fallback is not None:
                if waited_s < LOST_AFTER_S:
                    self._next_word_s[number] = LOST_AFTER_S
                elif found.stall in _LOSSES and not any(activity.works for activity in _activities(self.hosts, time.sleep)):
                    self.fallback.lose()
                    _log.warning(
                        "%s: no element for %.0f s: %s. From now on this process makes its batches itself, on its own CPUs "
                        '(on_service_loss="local")',
                        self.name,
                        waited_s,
                        found,
                    )
                    return None
            if found.stall is Stall.SLOW:
                # the deadline counts from the last sign of work
                self._stalled_since_s[number] = waited_s
            elif over:
                return StalledError(f"{self.name}: no element for {waited_s:.0f} s: {found}")
            _log.warning("%s: waiting for an element for %.0f s: %s", self.name, waited_s, found)
        return None


def watch(stream: Stream) -> None:
    """Watches a stream from now on, in a thread that all streams of this process share."""
    global _thread
    with _lock:
        _streams.append(stream)
        if _thread is None:
            _thread = threading.Thread(target=_watch, name="hetero-tfdata-stalls", daemon=True)
            _thread.start()
            atexit.register(_stop)


def diagnose(service: str, hosts: Sequence[Host], *, sleep: Callable[[float], None] = time.sleep) -> Diagnosis:
    """Looks at the service: the dispatcher, its workers, and how much the hosts' workers do in 2 s.

    Args:
        service: "grpc://host:port" of the dispatcher.
        hosts: who serves.
        sleep: for tests.
    """
    with DispatcherClient(service) as client:
        try:
            workers = client.workers()
        except grpc.RpcError as error:
            return Diagnosis(
                Stall.UNREACHABLE,
                f"the dispatcher at {client.target} does not answer ({reason_of(error)})",
                "Look at that host's log",
            )
    if not workers:
        return Diagnosis(Stall.NO_WORKERS, f"the dispatcher at {client.target} knows none", "Look at the data hosts' logs")
    problems = {address: connection_problem(address) for address in workers}
    lost = [f"{address} ({problem})" for address, problem in problems.items() if problem is not None]
    if lost:
        return Diagnosis(
            Stall.UNREACHABLE,
            f"{len(lost)} of {len(workers)} workers take no connection: {', '.join(lost)}",
            "Where a worker comes back at its address, the stream goes on",
        )
    activities = _activities(hosts, sleep)
    reached = f"all {len(workers)} workers can be reached"
    if not activities:
        return Diagnosis(
            Stall.UNKNOWN,
            f"{reached}, and nobody tells what they do",
            "Look at their logs and at their CPUs: busy, they are too few; idle, their source gives them nothing",
        )
    told = ", ".join(str(activity) for activity in activities)
    if any(activity.works for activity in activities):
        return Diagnosis(Stall.SLOW, f"{reached} and work ({told})", "More data hosts, or a cheaper graph")
    return Diagnosis(
        Stall.STARVED,
        f"{reached} and have nothing to do ({told})",
        "Look at what they read: files, network, a shuffle that fills its buffer",
    )


@dataclass(frozen=True)
class _Activity:
    """What the workers of a host did between two looks."""

    host: str
    cpus: float
    usable_cpus: int
    batches: int

    @property
    def works(self) -> bool:
        return self.cpus > _IDLE_CPUS or self.batches > 0

    def __str__(self) -> str:
        return f"{self.host}: {self.cpus:.1f} of {self.usable_cpus} CPUs, {self.batches} batches in {_SAMPLE_S:.0f} s"


def _activity(before: HostStatus, after: HostStatus) -> _Activity:
    used = sum(worker.cpu_s for worker in after.workers) - sum(worker.cpu_s for worker in before.workers)
    batches = sum(w.batches_served for w in after.workers) - sum(w.batches_served for w in before.workers)
    # a worker that was started again meanwhile has used less than its predecessor
    return _Activity(after.host, max(0.0, used) / _SAMPLE_S, after.usable_cpus, batches)


def _activities(hosts: Sequence[Host], sleep: Callable[[float], None]) -> list[_Activity]:
    before = _ask(hosts)
    sleep(_SAMPLE_S if before else 0.0)
    return [_activity(before[name], after) for name, after in _ask(hosts).items() if name in before]


def _ask(hosts: Sequence[Host]) -> dict[str, HostStatus]:
    told = {}
    for host in hosts:
        with contextlib.suppress(JobError):
            told[host.name] = ask_status(host, _STATUS_TIMEOUT_S)
    return told


# --- the thread ---

_streams: list[Stream] = []
_lock = threading.Lock()
_thread: threading.Thread | None = None


_stopped = threading.Event()


def _stop() -> None:
    """At the end of the process: the thread first. It holds frames of other threads, and through them iterators; one that is
    destroyed outside of the main thread while the interpreter goes aborts the process ("FATAL: exception not rethrown", TF
    2.15.1, after a training that had succeeded)."""
    _stopped.set()
    if _thread is not None:
        _thread.join(_LAST_LOOK_S)
    for stream in _streams:
        stream.at_end()


def _watch() -> None:
    blocked = Blocked()
    while not _stopped.wait(_POLL_S):
        with _lock:
            streams = list(_streams)
        for stream in streams:
            stream.beside()
        if any(stream.pulse.waiting_s() for stream in streams):
            blocked_s = blocked.look()
        else:
            blocked_s = 0.0
            blocked.forget()
        for stream in streams:
            error = stream.look(blocked_s)
            if error is not None:
                _end(error, stream.pulse)


def _end(error: StalledError, pulse: Pulse) -> None:
    """Raises the error in the main thread, and ends the process where nothing comes of it."""
    _raise_in_main_thread(error)
    deadline = time.monotonic() + _GRACE_S
    blocked = Blocked()
    blocked.look()
    while time.monotonic() < deadline:
        time.sleep(_POLL_S)
        if not pulse.waiting_s() or not blocked.look():
            return
    sagemaker.write_failure(os.environ, str(error))
    print(f"{type(error).__module__}.{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os._exit(error.exit_code)


def _raise_in_main_thread(error: StalledError) -> None:
    # CPython takes a class and calls it when the thread next runs Python: this one is the error that is to be raised
    told = type("StalledError", (StalledError,), {"__init__": lambda self: StalledError.__init__(self, str(error))})
    told.__module__ = StalledError.__module__
    main = ctypes.c_ulong(threading.main_thread().ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(main, ctypes.py_object(told))
