"""A link in user space: TCP through ports of 127.0.0.1, with a delay, a rate for each flow and one for all of them together.

`python -m wiring.relay PORTS LINK` (LINK as JSON) is a process of its own: it prints its ports, takes lines `[port, target]`
that say which port of 127.0.0.1 lies behind one of its own, and ends with its standard input. Standard library only.

A byte that was read leaves when those before it on its flow and on the host's link have left, and arrives a delay later. Both
directions have each rate for themselves, as a full-duplex link does. What is not emulated: loss, TCP's own slow start (each
half of a flow is a loopback connection), the headers' share of the bytes, the handshake's delay.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from augmentation.turns import take_pipe

QUANTUM = 65_536  # bytes; a millisecond of a flow of 500 Mbit/s
# A loop that wakes late may catch up on so much, so that its lateness costs no throughput.
_CATCH_UP_S = 0.02
_KERNEL_BYTES = 262_144  # of each socket here, or the kernel's buffers, up to 6 MB each, would hold whole messages

__all__ = ["QUANTUM", "Link", "Pace", "Relay", "running"]


@dataclass(frozen=True)
class Link:
    """What lies between two hosts.

    Attributes:
        one_way_s: delay in each direction.
        flow_bytes_per_s: of one TCP connection, in each direction.
        host_bytes_per_s: of all connections together, in each direction; None: no limit.
    """

    one_way_s: float
    flow_bytes_per_s: float
    host_bytes_per_s: float | None = None

    def slowed(self, factor: float) -> Link:
        """The same link as in a film that runs `factor` times slower: rates divided, delays multiplied, bytes as they are.

        So the bandwidth-delay product, and with it what windows and messages of so many bytes mean, stays what it was.
        """
        host = None if self.host_bytes_per_s is None else self.host_bytes_per_s / factor
        return Link(self.one_way_s * factor, self.flow_bytes_per_s / factor, host)


class Pace:
    """Which moment the next byte may leave at, for a rate. Who was late catches up; who had nothing to send does not."""

    def __init__(self, bytes_per_s: float) -> None:
        self.free_at = 0.0
        self._bytes_per_s = bytes_per_s

    def take(self, count: int, now: float) -> float:
        """Sends so many bytes that stood ready; when the last of them has left."""
        self.free_at = max(self.free_at, now - _CATCH_UP_S) + count / self._bytes_per_s
        return self.free_at

    def idle(self, now: float) -> None:
        """Nothing stands ready."""
        self.free_at = max(self.free_at, now)


class _Stream:
    """One direction of one flow."""

    def __init__(self, source: socket.socket, sink: socket.socket, link: Link, host: Pace | None) -> None:
        self.source, self.sink = source, sink
        self.ended = self.is_blocked = False
        self.pace = Pace(link.flow_bytes_per_s)
        self.host = host
        self.on_the_way: collections.deque[tuple[float, memoryview]] = collections.deque()  # when it arrives, what
        self._delay_s = link.one_way_s
        self._bytes = 0
        # more is on the way only where nobody reads at the other end
        self._most_bytes = link.flow_bytes_per_s * link.one_way_s + 8 * QUANTUM

    @property
    def has_room(self) -> bool:
        """Whether more may be read."""
        return not self.ended and self._bytes < self._most_bytes

    @property
    def ready_at(self) -> float:
        """When the next byte may leave."""
        return max(self.pace.free_at, self.host.free_at if self.host else 0.0)

    def read(self, now: float) -> None:
        """Takes what stands ready, up to a quantum."""
        try:
            part = self.source.recv(QUANTUM)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self.ended = True
        left = self.pace.take(len(part), now)
        if self.host is not None:
            left = max(left, self.host.take(len(part), now))
        self.on_the_way.append((left + self._delay_s, memoryview(part)))
        self._bytes += len(part)

    def deliver(self, now: float) -> bool:
        """Hands on what has arrived; false: the flow is over."""
        self.is_blocked = False
        while self.on_the_way and self.on_the_way[0][0] <= now:
            due, part = self.on_the_way.popleft()
            try:
                if not part:
                    self.sink.shutdown(socket.SHUT_WR)
                    continue
                sent = self.sink.send(part)
            except BlockingIOError:
                sent = 0
            except OSError:
                return False
            self._bytes -= sent
            if sent < len(part):
                self.on_the_way.appendleft((due, part[sent:]))
                self.is_blocked = True
                break
        return True


class Relay:
    """The ports, and the loop that serves them; the process's only thread."""

    def __init__(self, ports: int, link: Link) -> None:
        self._listeners = [socket.create_server(("127.0.0.1", 0), backlog=64) for _ in range(ports)]
        self._link = link
        self._targets: dict[int, int] = {}
        total = link.host_bytes_per_s
        self._hosts = tuple(None if total is None else Pace(total) for _ in range(2))  # there and back
        self._flows: collections.deque[tuple[_Stream, _Stream]] = collections.deque()

    @property
    def ports(self) -> list[int]:
        """Where it listens."""
        return [listener.getsockname()[1] for listener in self._listeners]

    def serve(self, control: int) -> None:
        """Until the descriptor `control` ends."""
        readable: set[socket.socket | int] = set()
        text = b""
        while True:
            if control in readable:
                line = os.read(control, 65_536)
                if not line:
                    return
                text += line
                *lines, text = text.split(b"\n")
                self._targets.update(json.loads(each) for each in lines)
            for listener in self._listeners:
                if listener in readable:
                    self._accept(listener)
            readable = self._step(readable, control)

    def _accept(self, listener: socket.socket) -> None:
        near, _ = listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._targets[listener.getsockname()[1]]), timeout=5.0)
        except (OSError, KeyError):
            near.close()
            return
        for end in (near, far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BYTES)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setblocking(False)
        there, back = self._hosts
        self._flows.append((_Stream(near, far, self._link, there), _Stream(far, near, self._link, back)))

    def _step(self, readable: set[socket.socket | int], control: int) -> set[socket.socket | int]:
        """Moves what can be moved, and waits for more; what can then be read."""
        self._flows.rotate()  # nobody is always the first at the host's link
        now = time.monotonic()
        for flow in list(self._flows):
            for stream in flow:
                if stream.source in readable and stream.has_room and stream.ready_at <= now:
                    stream.read(now)
            alive = [stream.deliver(now) for stream in flow]
            if not all(alive) or all(stream.ended and not stream.on_the_way for stream in flow):
                self._flows.remove(flow)
                for stream in flow:
                    stream.source.close()
        return self._wait(control)

    def _wait(self, control: int) -> set[socket.socket | int]:
        """Until something can be read or is due."""
        now = time.monotonic()
        waiting: list[_Stream] = []  # for bytes; the others wait for their rate, or for room
        writes: list[socket.socket] = []
        wake_at = now + 1.0
        for stream in (stream for flow in self._flows for stream in flow):
            if stream.is_blocked:
                writes.append(stream.sink)
            elif stream.on_the_way:
                wake_at = min(wake_at, stream.on_the_way[0][0])
            if not stream.has_room:
                stream.pace.idle(now)
            elif stream.ready_at <= now:
                waiting.append(stream)
            else:
                wake_at = min(wake_at, stream.ready_at)
        reads = [control, *self._listeners, *(stream.source for stream in waiting)]
        # select, for its microseconds: epoll waits whole milliseconds
        readable, writable, _ = select.select(reads, writes, [], 0)
        found = set(readable)
        self._idle([stream for stream in waiting if stream.source not in found], now)
        if not readable and not writable:
            found = set(select.select(reads, writes, [], max(0.0, wake_at - time.monotonic()))[0])
            self._idle(waiting, time.monotonic())  # also those that have something now
        return found

    def _idle(self, streams: list[_Stream], now: float) -> None:
        """They had nothing to send until now; nor had the host's link, where nobody else had."""
        for stream in streams:
            stream.pace.idle(now)
        for direction, host in enumerate(self._hosts):
            if host is not None and host.free_at <= now and all(flow[direction] in streams for flow in self._flows):
                host.idle(now)


@dataclass(frozen=True)
class Running:
    """A relay's process.

    Attributes:
        pid: of it.
        ports: those of its own.
    """

    pid: int
    ports: list[int]
    _process: subprocess.Popen[str]

    def lead(self, port: int, target: int) -> None:
        """From one of its ports to another port of this machine; before anybody connects."""
        assert self._process.stdin is not None
        print(json.dumps([port, target]), file=self._process.stdin, flush=True)


@contextlib.contextmanager
def running(ports: int, link: Link) -> Iterator[Running]:
    """A relay of so many ports; ended on the way out."""
    command = [sys.executable, "-m", "wiring.relay", str(ports), json.dumps(dataclasses.asdict(link))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the relay ended with exit code {process.wait()} before it listened")
            yield Running(process.pid, json.loads(line), process)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Serves until standard input ends."""
    replies = take_pipe()
    relay = Relay(int(sys.argv[1]), Link(**json.loads(sys.argv[2])))
    print(json.dumps(relay.ports), file=replies)
    relay.serve(0)


if __name__ == "__main__":
    main()
