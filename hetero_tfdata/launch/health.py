"""How the hosts of a job know of each other: each publishes its state, and follows the hosts it depends on.

The transport is gRPC, which every TensorFlow brings along, with JSON as messages: no generated code that would have to match
the protobuf version of the job's image.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.errors import JobError, PortInUseError
from hetero_tfdata.service import demand_port, shares, status, versions
from hetero_tfdata.service.cpus import usable_cpus
from hetero_tfdata.service.demand import DEMAND_METHOD
from hetero_tfdata.service.servers import is_port_free
from hetero_tfdata.service.shares import Share
from hetero_tfdata.service.status import HEALTH_SERVICE, HostStatus, Phase, ServerStatus

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # children are started with exec; its fork handlers only warn
import grpc

__all__ = ["HealthServer", "HostState", "Phase", "RankReport", "follow", "report_rank"]

_HEARTBEAT_S = 2.0
_ACKNOWLEDGE_S = 2.0
_MAX_MESSAGE_BYTES = 64 * 1024
_CHANNEL_OPTIONS = [
    # notice within about 10 s that the other side's host or network is gone, also while nothing is sent
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
]
_SERVER_OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 2000),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
]


@dataclass(frozen=True)
class HostState:
    """What a host publishes: its name, its phase, and the reason of a failure."""

    host: str
    phase: Phase
    reason: str | None = None


@dataclass(frozen=True)
class RankReport:
    """How the training script of one rank ended."""

    rank: int
    host: str
    exit_code: int
    reason: str | None = None


class HealthServer:
    """Publishes this host's state on its health port, answers `service.status.ask_status`, hands demands on to this host's
    servers, and on the leader's host collects the ranks' reports.

    Raises:
        PortInUseError: the health port is taken.
    """

    def __init__(self, host: Host) -> None:
        if not is_port_free(host.health_port):
            raise PortInUseError(
                f"the health port {host.health_port} on {host.name} is in use by another program; end that program, or give "
                "this host another block of ports (HETERO_TFDATA_ADDRESSES, on every host)"
            )
        self._changed = threading.Condition()
        self._state = HostState(host.name, Phase.STARTING)
        self._reports: dict[int, RankReport] = {}
        self._informed: set[str] = set()
        self._servers: Callable[[], Sequence[ServerStatus]] = tuple
        self._meet: demand_port.Meet | None = None
        self._members: Sequence[Host] = ()
        self._take_share: Callable[[Share], object] = lambda share: None
        # a follower occupies a thread as long as it follows
        self._server = grpc.server(ThreadPoolExecutor(max_workers=128), options=_SERVER_OPTIONS)
        handlers = {
            "Acknowledge": grpc.unary_unary_rpc_method_handler(self._acknowledge),
            DEMAND_METHOD: demand_port.handler(lambda: self._meet, lambda: self._members),
            "Follow": grpc.unary_stream_rpc_method_handler(self._follow),
            "Report": grpc.unary_unary_rpc_method_handler(self._report),
            shares.SHARE_METHOD: grpc.unary_unary_rpc_method_handler(self._share),
            status.STATUS_METHOD: grpc.unary_unary_rpc_method_handler(self._status),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH_SERVICE, handlers),))
        if not self._server.add_insecure_port(f"0.0.0.0:{host.health_port}"):
            raise PortInUseError(f"can't listen on the health port {host.health_port} of {host.name}")

    def __enter__(self) -> HealthServer:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.stop(grace=1.0).wait(timeout=2.0)

    @property
    def reports(self) -> dict[int, RankReport]:
        """The ranks that have ended so far."""
        with self._changed:
            return dict(self._reports)

    @property
    def first_failure(self) -> RankReport | None:
        """The first rank that reported a failure: the others' failures are mostly its echo."""
        return next((report for report in self.reports.values() if report.exit_code), None)

    def publish(self, phase: Phase, reason: str | None = None) -> None:
        """Tells all followers; a final state stays."""
        with self._changed:
            if not self._state.phase.is_final:
                self._state = HostState(self._state.host, phase, reason)
                self._changed.notify_all()

    def show(self, servers: Callable[[], Sequence[ServerStatus]]) -> None:
        """Whoever asks for this host's status is told of these servers from now on (`Supervisor.status`)."""
        self._servers = servers

    def take_demands(self, meet: demand_port.Meet, members: Sequence[Host]) -> None:
        """Demands of those hosts are met by that function from now on (`Supervisor.meet`)."""
        self._members = members
        self._meet = meet

    def take_shares(self, take: Callable[[Share], object]) -> None:
        """What ranks got of their passes is given to this function from now on (`Tally.add`)."""
        self._take_share = take

    def wait_for_reports(self, ranks: int, timeout_s: float) -> bool:
        """Whether that many ranks reported, or one reported a failure, before the deadline."""
        with self._changed:
            return self._changed.wait_for(
                lambda: len(self._reports) >= ranks or any(r.exit_code for r in self._reports.values()), timeout_s
            )

    def wait_until_informed(self, hosts: set[str], timeout_s: float) -> set[str]:
        """Waits until the hosts received the final state; returns those that did not."""
        with self._changed:
            self._changed.wait_for(lambda: hosts <= self._informed, timeout_s)
            return hosts - self._informed

    def _follow(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        _decode(request, context)
        sent: HostState | None = None
        while context.is_active() and not (sent is not None and sent.phase.is_final):
            with self._changed:
                if self._state is sent:
                    self._changed.wait(timeout=_HEARTBEAT_S)
                sent = self._state
            yield _encode(sent)

    def _acknowledge(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        follower = str(_decode(request, context).get("host"))
        with self._changed:
            self._informed.add(follower)
            self._changed.notify_all()
        return b"{}"

    def _status(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        with self._changed:
            state = self._state
        servers = self._servers()
        return status.encode(
            HostStatus(
                host=state.host,
                phase=state.phase,
                reason=state.reason,
                usable_cpus=usable_cpus(),
                workers=tuple(server for server in servers if server.name != "dispatcher"),
                dispatcher=next((server for server in servers if server.name == "dispatcher"), None),
                tensorflow=versions.installed_tensorflow(),
            )
        )

    def _share(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            share = shares.decode(request)
        except (TypeError, ValueError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        self._take_share(share)
        return b"{}"

    def _report(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        message = _decode(request, context)
        try:
            report = RankReport(int(message["rank"]), str(message["host"]), int(message["exit_code"]), message["reason"])
        except (KeyError, TypeError, ValueError):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "expected rank, host, exit_code, reason")
        with self._changed:
            self._reports.setdefault(report.rank, report)
            self._changed.notify_all()
        return b"{}"


def follow(
    host: Host,
    follower: str,
    *,
    first_contact_s: float,
    lease_s: float,
    stopped: threading.Event,
    on_state: Callable[[HostState], None] = lambda state: None,
) -> HostState | None:
    """Follows a host's state until it is final; None if `stopped` was set first.

    Args:
        host: whom to follow.
        follower: this host's name.
        first_contact_s: how long the other host may take to come up.
        lease_s: how long, after that, it may be silent. It says something every 2 s.
        stopped: ends the wait.
        on_state: called with each new state.

    Raises:
        JobError: the host did not come up, or was lost.
    """
    messages: queue.SimpleQueue[HostState | str] = queue.SimpleQueue()
    finished = threading.Event()
    channel = grpc.insecure_channel(f"{host.address}:{host.health_port}", options=_CHANNEL_OPTIONS)
    reader = threading.Thread(target=_read_states, args=(channel, follower, messages, finished), daemon=True)
    reader.start()
    started = last_sign = time.monotonic()
    state: HostState | None = None
    problem = "no connection"
    try:
        while not stopped.is_set():
            now = time.monotonic()
            patience_s = first_contact_s if state is None else lease_s
            if now - last_sign > patience_s:
                place = f"{host.name} ({host.address}:{host.health_port})"
                if state is None:
                    raise JobError(f"{place} did not come up within {now - started:.0f} s: {problem}")
                raise JobError(f"lost {place}, which was {state.phase.value}: no sign of life for {now - last_sign:.0f} s")
            try:
                message = messages.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(message, str):
                problem = message
                if state is not None and state.phase is Phase.STOPPING:
                    raise JobError(state.reason or f"{host.name} was stopped")
                continue
            last_sign = time.monotonic()
            if message != state:
                state = message
                on_state(state)
            if state.phase.is_final:
                return state
        return None
    finally:
        finished.set()
        channel.close()


def report_rank(leader: Host, report: RankReport, timeout_s: float) -> bool:
    """Tells the leader how a rank ended; False if the leader could not be reached in time (it may have ended first)."""
    with grpc.insecure_channel(f"{leader.address}:{leader.health_port}", options=_CHANNEL_OPTIONS) as channel:
        try:
            channel.unary_unary(f"/{HEALTH_SERVICE}/Report")(
                json.dumps(asdict(report)).encode(), timeout=timeout_s, wait_for_ready=True
            )
        except grpc.RpcError:
            return False
    return True


def _read_states(
    channel: grpc.Channel,
    follower: str,
    messages: queue.SimpleQueue[HostState | str],
    finished: threading.Event,
) -> None:
    """Puts states, or a string for each lost connection, until finished."""
    request = json.dumps({"host": follower}).encode()
    state: HostState | None = None
    while not finished.is_set():
        try:
            for raw in channel.unary_stream(f"/{HEALTH_SERVICE}/Follow")(request, wait_for_ready=True):
                message = json.loads(raw)
                state = HostState(message["host"], Phase(message["phase"]), message["reason"])
                if state.phase.is_final:
                    # before the main thread knows and closes the channel: the other side waits for this
                    channel.unary_unary(f"/{HEALTH_SERVICE}/Acknowledge")(request, timeout=_ACKNOWLEDGE_S)
                    messages.put(state)
                    return
                messages.put(state)
        except grpc.RpcError as error:
            if state is not None and state.phase.is_final:
                messages.put(state)
                return
            messages.put(str(error.details() or error.code().name.lower()).splitlines()[0])
        except (ValueError, KeyError, TypeError) as error:
            messages.put(f"not a host state: {error}")
        finished.wait(0.5)


def _encode(state: HostState) -> bytes:
    return json.dumps(asdict(state)).encode()


def _decode(request: bytes, context: grpc.ServicerContext) -> dict[str, Any]:
    try:
        message = json.loads(request)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "expected a JSON object")
    return message
