"""The near side of a fleet: `python -m wiring.consumers`. Takes turns, each with datasets made anew.

A line in, `{"turn": NAME, ...}`, the arguments of the function of that name; a line out, what it returns. Wall time and CPU
seconds are of a window that begins once the flows are under way, with the buffers as empty or full as they stay.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from augmentation.turns import take_pipe

from wiring.contenders import receive, tiny
from wiring.fleet import ECHO, STREAM
from wiring.processes import cpu_s


def main() -> None:
    """Takes turns until the pipe closes."""
    replies = take_pipe()
    import tensorflow  # noqa: F401

    turns: dict[str, Callable[..., dict[str, Any]]] = {turn.__name__: turn for turn in (batches, plain, echo, sleeping, busy)}
    print(json.dumps({"ready": True}), file=replies)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(turns[request.pop("turn")](**request)), file=replies)


def batches(
    way: str, service: str, file: str, batch: int, workers: int, lead_s: float, window_s: float, pids: list[int]
) -> dict[str, Any]:
    """Photographs, from all workers of a service; the window ends with as many batches of each."""
    source = iter(receive(way, service, Path(file), batch))
    next(source)
    lead_until, led = time.monotonic() + lead_s, 0
    while time.monotonic() < lead_until or led % workers:
        next(source)
        led += 1
    meter = _Meter(pids)
    got = 0
    while meter.wall_s < window_s or got % workers:
        next(source)
        got += 1
    return {"images": got * batch, **meter.read()}


def plain(ports: list[int], lead_s: float, window_s: float, pids: list[int]) -> dict[str, Any]:
    """Bytes on plain TCP, through each of the ports."""
    got = [0] * len(ports)
    is_over = threading.Event()

    def pull(number: int) -> None:
        with socket.create_connection(("127.0.0.1", ports[number])) as connection:
            connection.sendall(STREAM)
            into = bytearray(262_144)
            while not is_over.is_set():
                got[number] += connection.recv_into(into)

    threads = [threading.Thread(target=pull, args=(number,)) for number in range(len(ports))]
    for thread in threads:
        thread.start()
    time.sleep(lead_s)
    meter, before = _Meter(pids), sum(got)
    time.sleep(window_s)
    found = {"bytes": sum(got) - before, **meter.read()}
    is_over.set()
    for thread in threads:
        thread.join()
    return found


def echo(port: int, times: int) -> dict[str, Any]:
    """How long one byte there and back takes: the median."""
    found = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(ECHO)
        for _ in range(times):
            started = time.perf_counter()
            connection.sendall(b".")
            connection.recv(1)
            found.append(time.perf_counter() - started)
    return {"round_trip_s": statistics.median(found)}


def sleeping(
    way: str, service: str, name: str, sleep_us: int, consumers: int, lead_s: float, window_s: float, pids: list[int]
) -> dict[str, Any]:
    """Batches that each took a worker `sleep_us`, of one stream shared by consumers, each a thread."""
    got = [0] * consumers
    is_over = threading.Event()
    errors: list[Exception] = []

    def pull(number: int, source: Any) -> None:
        try:
            for _ in source:
                got[number] += 1
                if is_over.is_set():
                    return
        except Exception as error:  # told by the main thread
            errors.append(error)

    streams = [tiny(way, service, name, sleep_us) for _ in range(consumers)]
    threads = [threading.Thread(target=pull, args=each, daemon=True) for each in enumerate(streams)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30.0
    while not errors and not all(got):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{way}: {got.count(0)} of {consumers} consumers got nothing within 30 s")
        time.sleep(0.005)
    time.sleep(lead_s)
    meter, before = _Meter(pids), sum(got)
    time.sleep(window_s)
    found = {"batches": sum(got) - before, **meter.read()}
    is_over.set()
    for thread in threads:
        thread.join(timeout=30.0)
    if errors:
        raise errors[0]
    return found


def busy(way: str, service: str, name: str, batches: int, pids: list[int]) -> dict[str, Any]:
    """So many batches that take a worker nothing, without Python between them."""
    import tensorflow as tf

    source = iter(tiny(way, service, name, 0))

    @tf.function
    def pull(count: tf.Tensor) -> None:
        for _ in tf.range(count):
            next(source)

    pull(tf.constant(batches // 4))
    meter = _Meter(pids)
    pull(tf.constant(batches))
    return {"batches": batches, **meter.read()}


class _Meter:
    """Wall and CPU seconds since it was made: of this process, and of others."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._others = [cpu_s(pid) for pid in pids]
        self._own, self._started = time.process_time(), time.monotonic()

    @property
    def wall_s(self) -> float:
        return time.monotonic() - self._started

    def read(self) -> dict[str, Any]:
        """For the reply."""
        wall_s, own = self.wall_s, time.process_time() - self._own
        others = [cpu_s(pid) - before for pid, before in zip(self._pids, self._others, strict=True)]
        return {"wall_s": wall_s, "client_cpu_s": own, "others_cpu_s": others}


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
