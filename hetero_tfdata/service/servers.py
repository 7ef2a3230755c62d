"""The server processes: `python -m hetero_tfdata.service.servers dispatcher|worker ...`, started by the supervisor.

A server process ends with whoever started it: its standard input is a pipe, and its end means that the parent is gone. It says
READY on standard output once it serves. From then on each line of the pipe is an order, as JSON: a library of operations to
load, {"number": 1, "module": "my_ops", "operations": ["MyOp"]}, or Python functions to serve, {"number": 2, "functions": {...}}
(functions.py). The answer comes on standard output, behind ANSWER: {"number": 1, "problem": null}. A dispatcher and a worker
both take new operations in while they serve (probed on TF 2.12.1, 2.15.1 and 2.21.0): nothing is restarted.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.service import custom_ops
from hetero_tfdata.service.fence import Fence, raise_descriptor_limit
from hetero_tfdata.service.functions import Functions

__all__ = ["ANSWER", "EXIT_PORT_IN_USE", "READY", "SERVED_COUNTER_FD", "is_port_free"]

READY = "hetero_tfdata: server ready"
ANSWER = "hetero_tfdata: answer "
EXIT_PORT_IN_USE = 98
# In every worker process this descriptor is a file to which the dataset appends one byte a batch (distribute.py puts the
# print operation there), so that its size is the number of batches. Workers inherit it from the supervisor, which can read
# the count at any time and after the worker's death. 900 stays below the usual soft limit of 1,024 descriptors.
SERVED_COUNTER_FD = 900


def is_port_free(port: int) -> bool:
    """Whether a server could listen on the port of all interfaces.

    gRPC sets SO_REUSEPORT, with which two servers share a port and each gets half of the connections; a plain bind sees
    the other one.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def main(argv: list[str] | None = None) -> int:
    """Runs one server until SIGTERM or the end of the parent."""
    arguments = _parser().parse_args(argv)
    if arguments.niceness:
        _stand_back(arguments.niceness)
    orders: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()  # its put() may interrupt its get()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: orders.put(None))
    threading.Thread(target=_read_orders, args=(orders,), daemon=True).start()
    if not is_port_free(arguments.port):
        print(f"port {arguments.port} is in use by another program", file=sys.stderr)
        return EXIT_PORT_IN_USE
    raise_descriptor_limit()
    fence = Fence(arguments.port, arguments.member, _log) if arguments.member else None
    # These processes serve from the CPUs alone; on a training host the accelerators are the script's.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    sys.path += arguments.modules_in
    server = _dispatcher(arguments) if arguments.server == "dispatcher" else _worker(arguments)
    if fence is not None:
        fence.put_up()
    _say(READY)
    while (order := orders.get()) is not None:
        _say(ANSWER + json.dumps(_answer(**json.loads(order))))
    # Nothing is left to lose: the dispatcher's journal is written as it goes, a worker has no state. An orderly shutdown
    # can wait for clients for ever.
    sys.stdout.flush()
    del server
    os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hetero_tfdata.service.servers")
    servers = parser.add_subparsers(dest="server", required=True)
    dispatcher = servers.add_parser("dispatcher")
    dispatcher.add_argument("--work-dir", required=True)
    worker = servers.add_parser("worker")
    worker.add_argument("--dispatcher", required=True, metavar="HOST:PORT")
    worker.add_argument("--advertise", required=True, metavar="HOST:PORT")
    worker.add_argument("--counter-fd", type=int)
    worker.add_argument("--inherit", default="", metavar="FD:AS,...")
    worker.add_argument("--functions", action="append", default=[], metavar="JSON")
    for server in (dispatcher, worker):
        server.add_argument("--port", type=int, required=True)
        # who gets through to the port; none: whoever reaches it
        server.add_argument("--member", action="append", default=[], metavar="HOST")
        server.add_argument("--niceness", type=int, default=0)
        server.add_argument("--preload", action="append", default=[], metavar="MODULE")
        # where the training script finds its own modules; last, so that they hide none
        server.add_argument("--modules-in", action="append", default=[], metavar="DIR")
    return parser


def _stand_back(niceness: int) -> None:
    """Other processes of this host come first: for its CPUs, and for its memory when there is too little."""
    os.nice(niceness)  # before TensorFlow starts its threads, which inherit it
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # the first to be killed (proc(5))


def _read_orders(orders: queue.SimpleQueue[bytes | None]) -> None:
    """Hands on the lines of standard input; its end is that of the parent, and of this process."""
    # the raw descriptor: this thread may still be reading when the interpreter closes its own buffers
    rest = b""
    while chunk := os.read(0, 4096):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            orders.put(line)
    os._exit(1)


def _say(line: str) -> None:
    # One write, with a line end before it: TensorFlow's threads write their log lines to the same pipe piece by piece, and
    # this line must not end up in the middle of one.
    os.write(sys.stdout.fileno(), f"\n{line}\n".encode())


def _answer(
    number: int, module: str = "", operations: Sequence[str] = (), functions: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Carries an order out in this process, which serves on meanwhile."""
    if functions is None:
        return {"number": number, "problem": custom_ops.problem_of_loading(module, operations, _log)}
    return {"number": number, "problem": _problem_of_serving(functions)}


def _problem_of_serving(functions: Mapping[str, Any]) -> str | None:
    from hetero_tfdata.service.serving_functions import problem_of_serving  # it imports TensorFlow

    return problem_of_serving(Functions.of(functions))


def _log(line: str) -> None:
    print(line, flush=True)


def _dispatcher(arguments: argparse.Namespace) -> Any:
    tf = _tensorflow(arguments.preload)
    service = tf.data.experimental.service
    return service.DispatchServer(
        service.DispatcherConfig(
            port=arguments.port,
            protocol="grpc",
            work_dir=arguments.work_dir,
            # restarted on its port, it goes on where it was; without this, clients end with "Unknown iteration client id"
            fault_tolerant_mode=True,
        )
    )


def _worker(arguments: argparse.Namespace) -> Any:
    if arguments.counter_fd is not None:
        os.dup2(arguments.counter_fd, SERVED_COUNTER_FD)
    for pair in filter(None, arguments.inherit.split(",")):  # the folders of the host's cache, see cache_store.py
        fd, number = map(int, pair.split(":"))
        os.dup2(fd, number)
    service = _tensorflow(arguments.preload).data.experimental.service
    for text in arguments.functions:  # before it serves: its predecessor's tasks go on at once
        if (problem := _problem_of_serving(json.loads(text))) is not None:
            raise ConfigurationError(f"the Python functions of a dataset that was served before: {problem}")
    return service.WorkerServer(
        service.WorkerConfig(
            dispatcher_address=arguments.dispatcher,
            worker_address=arguments.advertise,
            port=arguments.port,
            protocol="grpc",
            heartbeat_interval_ms=1000,
            # how long to try to reach a dispatcher that starts later
            dispatcher_timeout_ms=3_600_000,
        )
    )


def _tensorflow(preload: list[str]) -> Any:
    """TensorFlow with the custom operations of those modules. The dispatcher needs them as well as the workers: it loads
    the dataset's graph to split its source (without them: "Op type not registered" at the first iteration)."""
    import tensorflow

    for module in preload:
        custom_ops.load(module, _log)
    return tensorflow


if __name__ == "__main__":
    sys.exit(main())
