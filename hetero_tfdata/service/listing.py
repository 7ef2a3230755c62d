"""Which files there are, seen from where they will be read.

A channel may be on the data hosts alone. So the workers are asked, through tf.data service itself: a dataset of one element
that is not split ("off") runs on each of them, and its element is what the worker sees in the folder. Nothing else has to
listen on the data hosts, and where this process lists its own disk, it runs the same graph here.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.errors import NotReadyError
from hetero_tfdata.service.sights import Place, Sight, check, look, names_of, sight_of, unreadable

__all__ = ["Listing", "on_this_host", "on_workers"]

_FIRST_WORD_S = 10.0
_NEXT_WORD_S = 30.0
_PAUSE_S = 0.5  # between two rounds of questions
_OFF = tf.data.experimental.service.ShardingPolicy.OFF  # every worker answers
_DYNAMIC = tf.data.experimental.service.ShardingPolicy.DYNAMIC  # one does


@dataclass(frozen=True)
class Listing:
    """The files of a place: their names relative to the folder, sorted, as bytes; and how many workers will read them, as far
    as that is known."""

    place: Place
    names: tuple[bytes, ...]
    workers: int = 1


def on_this_host(place: Place, workers: int = 1) -> Listing:
    """The files that this host has, for so many workers.

    Raises:
        ConfigurationError: there is no such folder.
        DataError: no file matches, or the folder can't be read.
    """
    with tf.init_scope():
        pattern = tf.constant([place.folder, place.pattern])
        try:
            sight = sight_of([value.numpy() for value in look(pattern)], ())
            names = names_of(pattern).numpy()
        except tf.errors.OpError as error:
            raise unreadable(place, error) from error
    check(place, {"this host": sight})
    return Listing(place, tuple(sorted(names)), workers)


def on_workers(
    place: Place,
    service: str,
    hosts: Sequence[Host],
    timeout_s: float,
    log: Callable[[str], None],
    *,
    known: Sequence[Host] = (),
    compare: bool = True,
) -> Listing:
    """The files that the workers of a service have.

    Args:
        place: where to look.
        service: "grpc://host:port" of the dispatcher.
        hosts: who must answer; if empty, as many workers as there are.
        timeout_s: seconds until the error.
        log: takes a line after 10 s and every 30 s from then on.
        known: hosts whose workers have names in messages, the others have addresses.
        compare: ask them all, and refuse unequal lists; otherwise any one worker is believed. One rank has to compare.

    Raises:
        ConfigurationError: the folder is missing, or the hosts' files differ.
        DataError: no file matches, or the folder can't be read.
        NotReadyError: somebody is missing at the deadline; says who, at what address.
    """
    from hetero_tfdata.service.readiness import DispatcherClient, wait_for_workers

    deadline = time.monotonic() + timeout_s
    with DispatcherClient(service) as client:
        workers = wait_for_workers(client, hosts, timeout_s, log)
    ask = _Question(place, service, hosts, known, deadline, timeout_s, log)
    if compare:
        check(place, ask.every_host(len(workers)))
    sight, names = ask.anybody()
    if not compare:
        check(place, {sight.who: sight})
    return Listing(place, tuple(sorted(names)), len(workers))


@dataclass
class _Question:
    """What the workers are asked, with a deadline."""

    place: Place
    service: str
    hosts: Sequence[Host]
    known: Sequence[Host]
    deadline: float
    timeout_s: float
    log: Callable[[str], None]

    def __post_init__(self) -> None:
        self._next_word = time.monotonic() + _FIRST_WORD_S

    def every_host(self, workers: int) -> dict[str, Sight]:
        """What each host's first worker to answer sees."""
        sights: dict[str, Sight] = {}
        answers = 0

        def missing() -> str:
            absent = [host for host in self.hosts if host.name not in sights]
            listed = ", ".join(f"{host.name} ({host.address}:{host.worker_ports[0]})" for host in absent)
            return listed or f"{workers - answers} of {workers} workers"

        while True:
            for answers, element in enumerate(self._elements(look, _OFF, missing), 1):
                sight = sight_of(element, self.known)
                known = sights.setdefault(sight.who, sight)
                if known.what != sight.what:  # somebody writes there just now, or they are containers of one host name
                    sights[f"{sight.who}, another worker"] = sight
                complete = all(host.name in sights for host in self.hosts) if self.hosts else answers >= workers
                if complete:  # not at the end of the stream: a worker that was lost keeps it waiting for ever
                    return sights
            # a worker that came back in the meantime was not asked
            time.sleep(min(_PAUSE_S, max(0.0, self.deadline - time.monotonic())))

    def anybody(self) -> tuple[Sight, Any]:
        """What one worker sees, and the names."""
        while True:
            for *element, names in self._elements(lambda x: (*look(x), names_of(x)), _DYNAMIC, lambda: "a worker"):
                return sight_of(element, self.known), names
            time.sleep(_PAUSE_S)

    def _elements(self, answer: Callable[[Any], Any], sharding: Any, missing: Callable[[], str]) -> Iterator[list[Any]]:
        """The elements as they come. tf.data service waits without a limit for what it lacks, in calls that hold on to their
        thread: it is one that may be left behind."""
        came: queue.Queue[Any] = queue.Queue()
        enough = threading.Event()

        def read() -> None:
            try:
                # an element of the dataset, so that nobody evaluates the pattern before a worker does
                asked = tf.data.Dataset.from_tensors([self.place.folder, self.place.pattern]).map(answer)
                answers = asked.apply(
                    # without a name: each reading is a job of its own
                    tf.data.experimental.service.distribute(sharding, self.service, compression=None)
                )
                for element in answers:
                    came.put([component.numpy() for component in element])
                    if enough.is_set():
                        return
                came.put(None)
            except Exception as error:
                came.put(error)

        threading.Thread(target=read, name="hetero_tfdata-files", daemon=True).start()
        try:
            while True:
                now = time.monotonic()
                try:
                    element = came.get(timeout=max(0.0, min(self.deadline, self._next_word) - now))
                except queue.Empty:
                    self._say(missing())
                    continue
                if element is None:
                    return
                if isinstance(element, tf.errors.OpError):
                    raise unreadable(self.place, element) from element
                if isinstance(element, Exception):
                    raise element
                yield element
        finally:
            enough.set()

    def _say(self, missing: str) -> None:
        now = time.monotonic()
        waited_s = self.timeout_s - (self.deadline - now)
        if now >= self.deadline:
            raise NotReadyError(
                f"waited {waited_s:.0f} s for the list of {self.place.title} from {missing}. Look at that host's log; "
                f"if {self.place.folder} takes so long to list, raise ready_timeout_s"
            )
        self.log(f"waiting for the list of {self.place.title} from {missing}: {waited_s:.0f} of {self.timeout_s:.0f} s")
        self._next_word = now + _NEXT_WORD_S
