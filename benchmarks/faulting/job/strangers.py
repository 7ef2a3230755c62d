"""Who has no say in a job, and tries."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time

import grpc

from hetero_tfdata.cluster.topology import Cluster
from hetero_tfdata.service.health_port import introduction
from hetero_tfdata.service.status import HEALTH_SERVICE

__all__ = ["ask_to_end", "send_garbage"]

_OPEN = 50  # connections that have said nothing yet, and that have spoken and are held
_LOUD_S, _QUIET_S = 30.0, 10.0
_ASK_S = 14.0
_FOREIGN = "10.77.200.200"  # in the emulated network, and no host's
_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h: else each connection takes its port away from those to other places


def send_garbage(cluster: Cluster, per_s: float, where: str, foreign: bool) -> None:
    """Random bytes, beginnings of HTTP/2 and silence, for 30 s, then 10 s nothing, again and again: to every port that the job
    may listen on ("all"), or to those of its "dispatchers", "health" ports or "workers" only; from an address of the job's, or
    from a foreign one. Each of these times is a line [begin, end, connections] of garbage.jsonl."""
    openings = (secrets.token_bytes(500), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + secrets.token_bytes(100), b"stop\n", b"")
    ports = {
        "all": [(host, offset) for host in cluster.hosts for offset in (0, 1, 2, 10, 11)],
        "dispatchers": [(cluster.data_hosts[0], 0)],
        "health": [(host, 1) for host in cluster.hosts],
        "workers": [(host, 10) for host in cluster.data_hosts],
    }[where]

    def begun(number: int) -> socket.socket:
        """A connection that may stand some milliseconds later."""
        host, offset = ports[number % len(ports)]
        connection = socket.socket()
        connection.setblocking(False)
        if foreign:
            connection.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            connection.bind((_FOREIGN, 0))
        connection.connect_ex((socket.gethostbyname(host.address), host.first_port + offset))
        return connection

    def run() -> None:
        while True:
            time.sleep(_QUIET_S)
            time_0, number = time.time(), 0
            silent: collections.deque[tuple[int, socket.socket]] = collections.deque()
            spoken: collections.deque[socket.socket] = collections.deque()
            while (passed_s := time.time() - time_0) < _LOUD_S:
                while number < passed_s * per_s:
                    silent.append((number // len(ports), begun(number)))
                    number += 1
                    if len(silent) > _OPEN:
                        turn, connection = silent.popleft()
                        with contextlib.suppress(OSError):  # it does not stand, or is closed already
                            connection.sendall(openings[turn % len(openings)])
                        spoken.append(connection)
                    if len(spoken) > _OPEN:
                        spoken.popleft().close()
                time.sleep(0.01)
            for connection in (*spoken, *(connection for _, connection in silent)):
                connection.close()
            with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "garbage.jsonl"), "a") as file:
                file.write(json.dumps([time_0, time.time(), number]) + "\n")

    if foreign:
        _take_foreign_address()
    threading.Thread(target=run, daemon=True).start()


def ask_to_end(cluster: Cluster) -> None:
    """Some seconds from now."""

    def run() -> None:
        time.sleep(_ASK_S)
        leader = cluster.leader_host
        place = f"{leader.address}:{leader.health_port}"
        tries = [("without token", place, ()), ("another token", place, (("hetero-tfdata-token", secrets.token_urlsafe()),))]
        if leader.address != cluster.here.address:
            _take_foreign_address()
            tries.append(("foreign address", _from_abroad(leader.address, leader.health_port), introduction()))
        report = json.dumps({"rank": 0, "host": "algo-9", "exit_code": 1, "reason": "a stranger says so"}).encode()
        heard = []
        for name, target, shown in tries:
            try:
                with grpc.insecure_channel(target) as channel:
                    channel.unary_unary(f"/{HEALTH_SERVICE}/Report")(report, timeout=5, metadata=shown)
                heard.append(name)
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                    heard.append(f"{name}: {error.code()}")
        if leader.address != cluster.here.address:
            servers = [("dispatcher", cluster.data_hosts[0], 0), ("worker", cluster.data_hosts[0], 10)]
            for name, host, offset in servers:
                tries.append((f"foreign address, {name}", "", ()))
                with contextlib.suppress(TimeoutError):
                    place = (host.address, host.first_port + offset)
                    socket.create_connection(place, timeout=2, source_address=(_FOREIGN, 0)).close()
                    heard.append(f"foreign address, {name}")
        if heard:
            print(f"strangers were not refused: {', '.join(heard)}", file=sys.stderr, flush=True)
        else:
            print(f"{len(tries)} strangers were refused: {', '.join(name for name, *_ in tries)}", flush=True)

    threading.Thread(target=run, daemon=True).start()


def _take_foreign_address() -> None:
    subprocess.run(["ip", "address", "replace", f"{_FOREIGN}/16", "dev", "eth0"], check=True)


def _from_abroad(address: str, port: int) -> str:
    """A port of this host that leads there, from the foreign address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        near, _ = listener.accept()
        far = socket.create_connection((address, port), timeout=5, source_address=(_FOREIGN, 0))
        far.settimeout(None)
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=_copy, args=(source, sink), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}"


def _copy(source: socket.socket, sink: socket.socket) -> None:
    while data := source.recv(65536):
        sink.sendall(data)
