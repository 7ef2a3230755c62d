"""How the hosts of a job know of each other: each publishes its state, and follows the hosts it depends on.

The transport is gRPC, which every TensorFlow brings along, with JSON as messages: no generated code that would have to match
the protobuf version of the job's image.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.service import demand_port, shares, status, versions
from hetero_tfdata.service.cpus import usable_cpus
from hetero_tfdata.service.demand import DEMAND_METHOD
from hetero_tfdata.service.health_port import grpc, listen
from hetero_tfdata.service.shares import Share
from hetero_tfdata.service.status import HostStatus, Phase, ServerStatus

__all__ = ["ATTEND_METHOD", "FAIL_METHOD", "HealthServer", "HostState", "Phase", "RankReport"]

ATTEND_METHOD = "Attend"
FAIL_METHOD = "Fail"

_HEARTBEAT_S = 2.0
# Each follower, and each other rank, occupies one as long as the job lasts; they are started as they are needed.
_THREADS = 1024


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

    Args:
        host: this host.
        members: the hosts that are heard; see `health_port`.

    Raises:
        PortInUseError: the health port is taken.
        ConfigurationError: the job's token is none.
    """

    def __init__(self, host: Host, members: Sequence[Host] = ()) -> None:
        self._changed = threading.Condition()
        self._state = HostState(host.name, Phase.STARTING)
        self._reports: dict[int, RankReport] = {}
        self._gone: dict[int, tuple[str, float]] = {}
        self._failed: dict[str, str] = {}
        self._informed: set[str] = set()
        self._servers: Callable[[], Sequence[ServerStatus]] = tuple
        self._meet: demand_port.Meet | None = None
        self._take_share: Callable[[Share], object] = lambda share: None
        methods = {
            "Acknowledge": self._acknowledge,
            FAIL_METHOD: self._fail,
            DEMAND_METHOD: demand_port.taking(lambda: self._meet),
            "Report": self._report,
            shares.SHARE_METHOD: self._share,
            status.STATUS_METHOD: self._status,
        }
        streams = {"Follow": self._follow, ATTEND_METHOD: self._attend}
        self._server = listen(host, members, methods, streams, threads=_THREADS)

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

    def gone_rank(self, for_s: float = 0.0) -> RankReport | None:
        """The first rank whose launcher has been gone so long without a word; None: all are there, or have reported."""
        with self._changed:
            latest = time.monotonic() - for_s
            gone = ((rank, host) for rank, (host, since) in self._gone.items() if rank not in self._reports and since <= latest)
            return next(
                (RankReport(rank, host, 1, "its launcher was killed, or its host is lost") for rank, host in gone), None
            )

    def failure_of(self, host: str) -> str | None:
        """Why that host gave up before it could publish its state; None: it has not said so."""
        with self._changed:
            return self._failed.get(host)

    def publish(self, phase: Phase, reason: str | None = None) -> None:
        """Tells all followers; a final state stays."""
        with self._changed:
            if not self._state.phase.is_final:
                self._state = HostState(self._state.host, phase, reason)
                self._changed.notify_all()

    def show(self, servers: Callable[[], Sequence[ServerStatus]]) -> None:
        """Whoever asks for this host's status is told of these servers from now on (`Supervisor.status`)."""
        self._servers = servers

    def take_demands(self, meet: demand_port.Meet) -> None:
        """Demands are met by that function from now on (`Supervisor.meet`)."""
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

    def _attend(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        message = _decode(request, context)
        rank, host = message.get("rank"), str(message.get("host"))
        if type(rank) is not int:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "expected rank and host")
        assert isinstance(rank, int)
        with self._changed:
            self._gone.pop(rank, None)  # it was cut off for a while

        def end() -> None:
            with self._changed:
                self._gone[rank] = (host, time.monotonic())
                self._changed.notify_all()

        if context.add_callback(end):
            while context.is_active():
                yield b"{}"
                with self._changed:
                    self._changed.wait(timeout=_HEARTBEAT_S)

    def _fail(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        message = _decode(request, context)
        with self._changed:
            self._failed.setdefault(str(message.get("host")), str(message.get("reason")))
        return b"{}"

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


def _encode(state: HostState) -> bytes:
    return json.dumps(asdict(state)).encode()


def _decode(request: bytes, context: grpc.ServicerContext) -> dict[str, Any]:
    try:
        message = status.parsed(request)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "expected a JSON object")
    return message
