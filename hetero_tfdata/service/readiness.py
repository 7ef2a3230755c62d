"""Waiting for the service, with a deadline and a story: who is missing, at what address, for how long.

TensorFlow itself waits for an unreachable dispatcher, absent workers and unroutable addresses without a word. So the
dispatcher is asked directly, by the gRPC methods that TensorFlow's own client uses (tensorflow/core/data/service/
dispatcher.proto: GetWorkers, GetDataServiceMetadata; probed on 2.15.1).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence

from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.errors import ConfigurationError, NotReadyError
from hetero_tfdata.service.status import reason_of

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # nothing here calls gRPC in a forked child; its handlers only warn
import grpc

__all__ = ["DispatcherClient", "connection_problem", "wait_for_dataset", "wait_for_workers"]

_FIRST_WORD_S = 10.0
_NEXT_WORD_S = 30.0
_RPC_TIMEOUT_S = 5.0


class DispatcherClient:
    """Asks a dispatcher what it knows.

    Args:
        address: "grpc://host:port".

    Raises:
        ConfigurationError: another form of address.
    """

    def __init__(self, address: str) -> None:
        scheme, separator, target = address.partition("://")
        host, _, port = target.rpartition(":")
        if not separator or scheme != "grpc" or not host or not port.isdigit():
            raise ConfigurationError(f"service: expected an address like grpc://host:port, got {address!r}")
        self.target = target
        # A dispatcher comes up minutes after its clients: try again soon rather than with gRPC's two minutes of back-off.
        self._channel = grpc.insecure_channel(target, options=[("grpc.max_reconnect_backoff_ms", 2000)])

    def __enter__(self) -> DispatcherClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def workers(self) -> list[str]:
        """The addresses ("host:port") that workers registered; raises grpc.RpcError if the dispatcher can't be reached."""
        response = self._call("GetWorkers", b"")
        return [address for worker in _fields(response, 1) for address in _strings(worker, 1)]

    def knows_dataset(self, dataset_id: str) -> bool:
        """Whether a dataset was registered under that id; raises grpc.RpcError if the dispatcher can't be reached."""
        name = dataset_id.encode()
        try:
            self._call("GetDataServiceMetadata", b"\x0a" + _varint(len(name)) + name)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise
        return True

    def _call(self, method: str, request: bytes) -> bytes:
        call = self._channel.unary_unary(f"/tensorflow.data.DispatcherService/{method}")
        return call(request, timeout=_RPC_TIMEOUT_S)


def wait_for_workers(
    client: DispatcherClient, hosts: Sequence[Host], timeout_s: float, log: Callable[[str], None]
) -> list[str]:
    """Returns the workers' addresses when each of the hosts has a worker that can be reached.

    Args:
        client: the dispatcher.
        hosts: who must have registered a worker; if empty, any one worker will do.
        timeout_s: seconds until the error.
        log: takes a line after 10 s and every 30 s from then on.

    Raises:
        NotReadyError: names the dispatcher or the hosts and addresses that are missing.
    """
    reached: set[str] = set()

    def missing() -> str | None:
        try:
            workers = client.workers()
        except grpc.RpcError as error:
            return f"the dispatcher at {client.target} ({reason_of(error)})"
        reached.difference_update(reached - set(workers))
        unreachable = []
        for address in workers:
            if address not in reached:
                problem = connection_problem(address)
                if problem is None:
                    reached.add(address)
                else:
                    unreachable.append(f"{address} ({problem})")
        absent = [host for host in hosts if not any(host.owns_worker(address) for address in workers)]
        parts = []
        if absent:
            parts.append("a worker on " + ", ".join(f"{h.name} ({h.address}:{h.worker_ports[0]})" for h in absent))
        if unreachable:
            parts.append(f"a connection to the worker at {', '.join(unreachable)}")
        if not workers and not hosts:
            parts.append(f"any worker registered with the dispatcher at {client.target}")
        return " and ".join(parts) or None

    _wait(missing, timeout_s, log)
    return sorted(reached)


def wait_for_dataset(client: DispatcherClient, dataset_id: str, timeout_s: float, log: Callable[[str], None]) -> None:
    """Returns when the leader has registered the dataset.

    Raises:
        NotReadyError: not before the deadline.
    """

    def missing() -> str | None:
        try:
            known = client.knows_dataset(dataset_id)
        except grpc.RpcError as error:
            return f"the dispatcher at {client.target} ({reason_of(error)})"
        return None if known else f"rank 0's registration of dataset {dataset_id!r} (every rank has to call distribute())"

    _wait(missing, timeout_s, log)


def _wait(missing: Callable[[], str | None], timeout_s: float, log: Callable[[str], None]) -> None:
    started = time.monotonic()
    next_word_s = _FIRST_WORD_S
    while True:
        what = missing()
        waited = time.monotonic() - started
        if what is None:
            return
        if waited >= timeout_s:
            raise NotReadyError(
                f"waited {waited:.0f} s for {what}. Look at that host's log; if hosts of this job start later than that, "
                "raise ready_timeout_s"
            )
        if waited >= next_word_s:
            log(f"waiting for {what}: {waited:.0f} of {timeout_s:.0f} s")
            next_word_s = waited + _NEXT_WORD_S
        time.sleep(min(0.3, max(0.0, timeout_s - waited)))


def connection_problem(address: str) -> str | None:
    """Why no connection to "host:port" can be made in 2 s; None if it can."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2.0).close()
    except (OSError, ValueError) as error:
        return str(error)
    return None


# Protocol buffers by hand: two messages of one string field each are not worth generated code, which would have to match
# whichever protobuf version the job's TensorFlow brings. Encoding: protobuf.dev/programming-guides/encoding.


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _fields(message: bytes, wanted: int) -> list[bytes]:
    """The length-delimited fields of that number; fields of other numbers and kinds are passed over."""
    found, position = [], 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        kind = tag & 7
        if kind == 2:
            size, position = _read_varint(message, position)
            if tag >> 3 == wanted:
                found.append(message[position : position + size])
            position += size
        elif kind == 0:
            _, position = _read_varint(message, position)
        else:
            position += {1: 8, 5: 4}[kind]
    return found


def _strings(message: bytes, wanted: int) -> list[str]:
    return [field.decode() for field in _fields(message, wanted)]


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
