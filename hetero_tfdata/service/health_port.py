"""The health port of a host: how it is opened, who may speak on it, and how to connect to it.

Only hosts of the job are heard, by the addresses that they connect from, and where the job has a token (the variable
HETERO_TFDATA_TOKEN, the same on every host) only those that show it. That holds for every method. Anything else changes
nothing: what is no gRPC is cut off by gRPC itself, half-open connections after some seconds. Messages, calls at once and calls
a second are limited.

The transport is not encrypted: who can read the hosts' traffic can read the token. See README, "Ports and who may speak".
"""

from __future__ import annotations

import hmac
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.errors import ConfigurationError, PortInUseError
from hetero_tfdata.service.members import Members
from hetero_tfdata.service.port_owner import owner_of_port
from hetero_tfdata.service.servers import is_port_free
from hetero_tfdata.service.status import HEALTH_SERVICE

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # children are started with exec; its fork handlers only warn
import grpc

__all__ = ["TOKEN_VARIABLE", "connect", "introduction", "job_token", "listen"]

TOKEN_VARIABLE = "HETERO_TFDATA_TOKEN"

_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")
_KEY = "hetero-tfdata-token"
_MAX_MESSAGE_BYTES = 64 * 1024
_SERVER_OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 2000),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.server_handshake_timeout_ms", 5000),  # of a connection that says nothing
]
_MAX_CALLS = 512  # at once: each host of a job follows the leader, and asks now and then
_CALLS_PER_S, _CALLS_IN_A_BURST = 200.0, 1000.0  # of one address: the ranks of a host begin and end together
_Unary = Callable[[bytes, grpc.ServicerContext], bytes]
_Stream = Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]


def job_token(environ: Mapping[str, str] | None = None) -> str | None:
    """The job's token; None where it has none.

    Raises:
        ConfigurationError: the variable is set to something that is no token. It is not shown.
    """
    token = (os.environ if environ is None else environ).get(TOKEN_VARIABLE)
    if not token:
        return None
    if not _TOKEN.fullmatch(token):
        raise ConfigurationError(
            f"{TOKEN_VARIABLE}: expected 16 to 128 letters, digits, - and _, got {len(token)} characters that are not; make "
            'one with python -c "import secrets; print(secrets.token_urlsafe())"'
        )
    return token


def connect(host: Host, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
    """A channel to a host's health port; to be closed by the caller. Each call on it takes `metadata=introduction()`."""
    return grpc.insecure_channel(f"{host.address}:{host.health_port}", options=options)


def introduction() -> tuple[tuple[str, str], ...]:
    """What a call shows to be heard: the job's token, where it has one."""
    token = job_token()
    return ((_KEY, token),) if token else ()


def listen(
    host: Host,
    members: Sequence[Host],
    unary: Mapping[str, _Unary],
    streams: Mapping[str, _Stream] | None = None,
    *,
    threads: int = 4,
) -> grpc.Server:
    """A server on a host's health port, to be started and stopped by the caller.

    Args:
        host: this host.
        members: the hosts that are heard; this one always is.
        unary: methods that answer with one message.
        streams: methods that answer with many; each call occupies a thread as long as it lasts.
        threads: that serve calls.

    Raises:
        PortInUseError: the port is taken.
        ConfigurationError: the job's token is none.
    """
    admission = _Admission(Members(members), job_token())
    server = grpc.server(ThreadPoolExecutor(max_workers=threads), options=_SERVER_OPTIONS, maximum_concurrent_rpcs=_MAX_CALLS)
    handlers = {
        **{name: grpc.unary_unary_rpc_method_handler(admission.of(method)) for name, method in unary.items()},
        **{name: grpc.unary_stream_rpc_method_handler(admission.of(method)) for name, method in (streams or {}).items()},
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH_SERVICE, handlers),))
    if not (is_port_free(host.health_port) and _is_bound(server, host.health_port)):
        raise PortInUseError(
            f"the health port {host.health_port} on {host.name} is in use by {owner_of_port(host.health_port)}; end that "
            "program, or give this host another block of ports (HETERO_TFDATA_ADDRESSES, on every host)"
        )
    return server


def _is_bound(server: grpc.Server, port: int) -> bool:
    try:
        return bool(server.add_insecure_port(f"0.0.0.0:{port}"))
    except RuntimeError:  # newer gRPC raises what older ones return as 0
        return False


class _Rate:
    """How many calls an address may still make: a bucket that fills up again (token bucket, RFC 2697). Only admitted addresses
    are counted, so there are as many buckets as hosts."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def takes(self, address: str) -> bool:
        """Whether one more call from there is within the rate."""
        now = time.monotonic()
        with self._lock:
            left, since = self._left.get(address, (_CALLS_IN_A_BURST, now))
            left = min(_CALLS_IN_A_BURST, left + (now - since) * _CALLS_PER_S)
            self._left[address] = max(0.0, left - 1), now
        return left >= 1


class _Admission:
    def __init__(self, members: Members, token: str | None) -> None:
        self._members = members
        self._token = token
        self._rate = _Rate()

    def of(self, method: Callable[[bytes, grpc.ServicerContext], Any]) -> Callable[[bytes, grpc.ServicerContext], Any]:
        """The method, for callers that are admitted."""

        def admitted(request: bytes, context: grpc.ServicerContext) -> Any:
            if context.peer() not in self._members:
                context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{context.peer()} is no address of this job's hosts")
            if self._token is not None:
                shown = dict(context.invocation_metadata()).get(_KEY, "")
                if not hmac.compare_digest(str(shown).encode(), self._token.encode()):
                    context.abort(
                        grpc.StatusCode.UNAUTHENTICATED, f"expected the job's {TOKEN_VARIABLE}, the same on every host"
                    )
            if not self._rate.takes(context.peer().rpartition(":")[0]):
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"more than {_CALLS_PER_S:g} calls a second from one address")
            return method(request, context)

        return admitted
