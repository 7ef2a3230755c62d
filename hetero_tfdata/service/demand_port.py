"""A host's side of demands: gRPC's handler, who may make one, and the port of a rank that owns its servers itself."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import urllib.parse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.errors import HeteroTFDataError, PortInUseError, ServiceError
from hetero_tfdata.service.demand import DEMAND_METHOD, Demand, decode, encode_answer
from hetero_tfdata.service.servers import is_port_free
from hetero_tfdata.service.status import HEALTH_SERVICE

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # see readiness.py
import grpc

__all__ = ["DemandPort", "handler", "is_member"]

# Meets a demand within that many seconds, or raises (Supervisor.meet).
Meet = Callable[[Demand, float], None]


def handler(who_meets: Callable[[], Meet | None], hosts: Callable[[], Sequence[Host]]) -> grpc.RpcMethodHandler:
    """The method of a health port that takes demands from the job's own hosts.

    Args:
        who_meets: asked at each demand.
        hosts: the hosts of the job.
    """

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        if not is_member(context.peer(), hosts()):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{context.peer()} is no address of this job's hosts")
        try:
            demand, timeout_s = decode(request)
        except (AttributeError, KeyError, TypeError, ValueError):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "expected libraries, workers, timeout_s")
        meet = who_meets()
        try:
            if meet is None:
                raise ServiceError(f"was told {demand}, but runs no servers")
            meet(demand, timeout_s)
        except HeteroTFDataError as error:
            return encode_answer(error)
        return encode_answer(None)

    return grpc.unary_unary_rpc_method_handler(answer)


def is_member(peer: str, hosts: Sequence[Host]) -> bool:
    """Whether gRPC's name for the other side ("ipv4:10.0.1.7:51234") has the address of one of the hosts, or is on this one
    (127.0.0.0/8: whoever runs here runs in the job's own container)."""
    kind, _, place = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return False
    address = _address(urllib.parse.unquote(place).rpartition(":")[0].strip("[]"))
    return address is not None and (address.is_loopback or any(address in _addresses_of(host) for host in hosts))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _addresses_of(host: Host) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address | None]:
    try:
        found = socket.getaddrinfo(host.address, None)
    except OSError:  # a host that has no name yet makes no demands
        return set()
    return {_address(str(place[0])) for *_, place in found} - {None}


class DemandPort:
    """Takes demands for servers that one rank owns, where `launch`, whose health port does it otherwise, does not run.

    Args:
        host: this host.
        hosts: all hosts of the job.
        meet: meets a demand.

    Raises:
        PortInUseError: the health port is taken.
    """

    def __init__(self, host: Host, hosts: Sequence[Host], meet: Meet) -> None:
        self._server = grpc.server(ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)])
        methods = {DEMAND_METHOD: handler(lambda: meet, lambda: hosts)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH_SERVICE, methods),))
        port = host.health_port
        if not (is_port_free(port) and self._listens(port)):
            raise PortInUseError(f"port {port} on {host.name} is in use by another program")
        self._server.start()

    def _listens(self, port: int) -> bool:
        with contextlib.suppress(RuntimeError):  # newer gRPC raises what older ones return as 0
            return bool(self._server.add_insecure_port(f"0.0.0.0:{port}"))
        return False

    def close(self) -> None:
        """Takes no more demands."""
        self._server.stop(grace=None)
