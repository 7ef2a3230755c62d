"""Many workers in one process: `python -m wiring.fleet WORKERS,... [LINK FILE]`, for each number a tf.data service of its own.

They are in one process because each that imports TensorFlow costs 4.4 CPU-seconds. With LINK (JSON) each worker advertises a
port of a relay, so that what its clients receive passes there; and so many further ports lead to a plain sender of FILE.

It prints where everything is, and ends with its standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from augmentation.turns import take_pipe

from wiring import relay
from wiring.relay import Link, Running

ECHO, STREAM = b"e", b"s"  # what a client of the plain sender asks for with its first byte
_MESSAGE = 1_048_576

__all__ = ["ECHO", "STREAM", "main"]


def main() -> None:
    """Serves until standard input ends."""
    replies = take_pipe()
    sizes = [int(size) for size in sys.argv[1].split(",")]
    place: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        if len(sys.argv) > 2:
            link = Link(**json.loads(sys.argv[2]))
            between = stack.enter_context(relay.running(sum(sizes) + max(sizes), link))
            plain = _send(Path(sys.argv[3]).read_bytes())
            ports = between.ports[sum(sizes) :]
            for port in ports:
                between.lead(port, plain)
            place = {"relay": between.pid, "plain": ports, "direct": plain}
            servers = _services(sizes, between)
        else:
            servers = _services(sizes, None)
        services = {size: address for size, (address, _) in servers.items()}
        print(json.dumps({"ready": True, "services": services, **place}), file=replies)
        sys.stdin.read()
    os._exit(0)  # an orderly shutdown can wait for clients for ever


def _services(sizes: list[int], between: Running | None) -> dict[int, tuple[str, Any]]:
    """By the number of workers: the address, and the servers, which stop when nobody refers to them."""
    import tensorflow as tf

    service = tf.data.experimental.service
    ports = iter(between.ports if between else [])
    found = {}
    for size in sizes:
        # Clients stand still between their turns, and are not given up for that; what a turn leaves behind is, soon.
        config = service.DispatcherConfig(
            port=0, worker_timeout_ms=3_600_000, job_gc_check_interval_ms=1000, job_gc_timeout_ms=1000
        )
        dispatcher = service.DispatchServer(config)
        address = dispatcher.target.partition("://")[2]
        workers = []
        for _ in range(size):
            port = next(ports, None)
            advertised = None if port is None else f"127.0.0.1:{port}"
            worker = service.WorkerServer(
                service.WorkerConfig(dispatcher_address=address, worker_address=advertised, heartbeat_interval_ms=1000)
            )
            if between and port is not None:
                between.lead(port, int(worker._address.rpartition(":")[2]))
            workers.append(worker)
        found[size] = (f"grpc://{address}", (dispatcher, workers))
    return found


def _send(content: bytes) -> int:
    """The port of a sender on plain TCP, which sends back what comes, or the content again and again."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    view = memoryview(content)

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wish = connection.recv(1)
            while wish == STREAM:
                for begin in range(0, len(view), _MESSAGE):
                    connection.sendall(view[begin : begin + _MESSAGE])
            while part := connection.recv(4096):
                connection.sendall(part)

    def accept() -> None:
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()
