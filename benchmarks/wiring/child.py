"""The near side of a contender: `python -m wiring.child NAME FILE BATCH`. Starts its sender, then takes turns.

A line in, `{"batches": n}`; a line out, `{"images": ..., "wall_s": ..., "client_cpu_s": ..., "worker_cpu_s": ...}`: CPU seconds
are user + system of all threads, of this process and of the sender.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from augmentation.turns import take_pipe

from hetero_tfdata.service.server_process import SERVER_ALLOCATOR
from wiring.contenders import receive
from wiring.pixels import ROW_BYTES
from wiring.processes import cpu_s


def main() -> None:
    """Takes turns until the pipe closes."""
    replies = take_pipe()
    name, file, batch = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    kind = name if name in ("tcp", "horovod") else "service"
    command = [sys.executable, "-m", "wiring.sender", kind, str(file), str(batch * ROW_BYTES)]
    # ours with the environment that our servers are started with
    environment = {**SERVER_ALLOCATOR, **os.environ} if name == "ours" else None
    sender = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert sender.stdout is not None
    address = sender.stdout.readline().strip()
    pull = _tcp(int(address), batch) if name == "tcp" else _tensorflow(name, address, file, batch)
    print(json.dumps({"ready": True}), file=replies)
    for line in sys.stdin:
        wall, here, there = time.perf_counter(), time.process_time(), cpu_s(sender.pid)
        images = sum(pull() for _ in range(json.loads(line)["batches"]))
        cost = {
            "wall_s": time.perf_counter() - wall,
            "client_cpu_s": time.process_time() - here,
            "worker_cpu_s": cpu_s(sender.pid) - there,
        }
        print(json.dumps({"images": images, **cost}), file=replies)


def _tensorflow(name: str, address: str, file: Path, batch: int) -> Callable[[], int]:
    batches = iter(receive(name, address, file, batch))
    return lambda: int(next(batches)[0].shape[0])


def _tcp(port: int, batch: int) -> Callable[[], int]:
    connection = socket.create_connection(("127.0.0.1", port))
    into = memoryview(bytearray(batch * ROW_BYTES))

    def pull() -> int:
        got = 0
        while got < len(into):
            part = connection.recv_into(into[got:])
            if not part:
                raise SystemExit("the sender ended")
            got += part
        return batch

    return pull


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
