"""Several ranks, no data hosts, no `launch`: the ranks' own hosts serve, and the first rank of each owns its servers."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable

from hetero_tfdata.cluster.topology import Cluster
from hetero_tfdata.service.demand import Demand
from hetero_tfdata.service.lifeline import Lifeline, hold
from hetero_tfdata.service.supervisor import Supervisor

__all__ = ["own_servers", "serve_from_here"]

_servers: Supervisor | None = None
_lock = threading.Lock()
_LINGER_S = 20.0


def serve_from_here(cluster: Cluster, timeout_s: float, log: Callable[[str], None]) -> None:
    """The first rank of each host starts the host's servers, once; each rank holds on to all who did.

    Args:
        cluster: the ranks' place.
        timeout_s: seconds for the servers to come up.
        log: takes their lines.

    Raises:
        PortInUseError: a port of this host is taken.
        NotReadyError: servers, or another host's first rank, did not come up.
        ServerDiedError: a server can't be kept running.
    """
    global _servers
    owns = cluster.ranks.local_rank == 0
    with _lock:
        if owns and _servers is None:
            _servers = _started(cluster, log)
            _servers.wait_until_ready(timeout_s)
    hold([host for host in cluster.serving_hosts if not (owns and host == cluster.here)], timeout_s)


def own_servers() -> Supervisor | None:
    """The servers that this process owns."""
    return _servers


def _started(cluster: Cluster, log: Callable[[str], None]) -> Supervisor:
    from hetero_tfdata.service.demand_port import DemandPort  # only now: it imports gRPC

    def meet(demand: Demand, timeout_s: float) -> None:
        servers.meet(demand, timeout_s)

    lifeline = Lifeline(cluster.here, holders=cluster.ranks.size - 1)
    port = DemandPort(cluster.here, cluster.hosts, meet)
    script = getattr(sys.modules["__main__"], "__file__", None)
    folder = os.path.dirname(os.path.abspath(script)) if script else None
    servers = Supervisor.for_host(cluster, log=log, modules_in=folder)
    servers.__enter__()

    def end() -> None:
        # also when this rank failed: the others end by their launcher's hand, which closes their connections
        lifeline.wait(_LINGER_S)
        port.close()
        servers.stop()

    atexit.register(end)
    return servers
