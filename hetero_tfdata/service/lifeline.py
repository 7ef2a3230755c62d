"""Keeps servers that live inside one rank alive until every other rank has ended.

Without `launch`, the first rank on a host owns its servers. If it ended first, the others would wait for ever for the end of
their dataset. So each rank holds a connection open to each such owner: the kernel closes it when the rank ends, however it
ends, and the owner lingers until then.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Sequence

from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.errors import NotReadyError, PortInUseError
from hetero_tfdata.service.port_owner import owner_of_port
from hetero_tfdata.service.servers import is_port_free

__all__ = ["Lifeline", "hold"]

_held: dict[Host, socket.socket] = {}


class Lifeline:
    """The owner's side: accepts connections and waits for their end.

    Args:
        host: this host, whose lifeline port is listened on.
        holders: how many other ranks will connect.

    Raises:
        PortInUseError: the port is taken.
    """

    def __init__(self, host: Host, holders: int) -> None:
        if not is_port_free(host.lifeline_port):
            raise PortInUseError(f"port {host.lifeline_port} on {host.name} is in use by {owner_of_port(host.lifeline_port)}")
        self._expected = holders
        self._ended = threading.Semaphore(0)
        self._listener = socket.create_server(("0.0.0.0", host.lifeline_port), backlog=max(1, holders))
        threading.Thread(target=self._accept, daemon=True).start()

    def wait(self, timeout_s: float) -> bool:
        """Whether all other ranks ended before the deadline."""
        deadline = time.monotonic() + timeout_s
        ended = all(self._ended.acquire(timeout=max(0.0, deadline - time.monotonic())) for _ in range(self._expected))
        self._listener.close()
        return ended

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._hold, args=(connection,), daemon=True).start()

    def _hold(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while connection.recv(1024):
                pass
        self._ended.release()


def hold(owners: Sequence[Host], timeout_s: float) -> None:
    """Connects to each owner, once per process, and keeps the connection until this process ends.

    Raises:
        NotReadyError: an owner can't be reached before the deadline.
    """
    deadline = time.monotonic() + timeout_s
    for host in owners:
        while host not in _held:
            try:
                _held[host] = socket.create_connection((host.address, host.lifeline_port), timeout=5.0)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise NotReadyError(
                        f"waited {timeout_s:.0f} s for the rank that serves from {host.name} "
                        f"({host.address}:{host.lifeline_port}): {error}"
                    ) from None
                time.sleep(0.2)
