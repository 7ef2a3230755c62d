"""The far side of a contender: `python -m wiring.sender service|horovod|tcp FILE BYTES`, a process of its own.

It prints where it is, and ends with its standard input. "service" is a tf.data service with one worker, "horovod" Horovod's
compute service with one, at a file that says where. "tcp" sends FILE from memory, in messages of BYTES, for as long as somebody
reads.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path


def main() -> None:
    """Serves until standard input ends."""
    kind, file, message = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        ways = {"service": _service, "horovod": lambda: _horovod(Path(folder)), "tcp": lambda: _tcp(file, message)}
        serving = ways[kind]()  # held on to: a server that nobody refers to stops
        print(serving[0], flush=True)
        sys.stdin.read()
    os._exit(0)


def _service() -> tuple[str, object]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    service = tf.data.experimental.service
    # This process stands still between turns, its clients do: nobody is given up for that.
    dispatcher = service.DispatchServer(service.DispatcherConfig(port=0, worker_timeout_ms=3_600_000))
    address = dispatcher.target.partition("://")[2]
    worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=address, heartbeat_interval_ms=1000))
    return f"grpc://{address}", (dispatcher, worker)


def _horovod(folder: Path) -> tuple[str, object]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from horovod.tensorflow.data import compute_worker

    where = os.dup(1)
    os.dup2(2, 1)  # what it prints
    sys.stdout = os.fdopen(where, "w")
    config = folder / "compute-service.json"
    # its main returns when the service ends
    thread = threading.Thread(target=compute_worker.main, args=(1, "compute", str(config), 60), daemon=True)
    thread.start()
    while not config.is_file() and thread.is_alive():
        time.sleep(0.05)
    return str(config), thread


def _tcp(file: Path, message: int) -> tuple[str, object]:
    content = memoryview(file.read_bytes())
    listener = socket.create_server(("127.0.0.1", 0))

    def send() -> None:
        connection, _ = listener.accept()
        while True:
            for begin in range(0, len(content), message):
                connection.sendall(content[begin : begin + message])

    threading.Thread(target=send, daemon=True).start()
    return str(listener.getsockname()[1]), listener


if __name__ == "__main__":
    main()
