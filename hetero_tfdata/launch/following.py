"""How a host follows another one's state, and how a rank that is not the leader is known to it."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from hetero_tfdata.cluster.topology import Host
from hetero_tfdata.errors import JobError
from hetero_tfdata.launch.health import ATTEND_METHOD, FAIL_METHOD, HostState, Phase, RankReport
from hetero_tfdata.service import status
from hetero_tfdata.service.health_port import connect, grpc, introduction
from hetero_tfdata.service.status import HEALTH_SERVICE

__all__ = ["announce_failure", "attending", "follow", "report_rank"]

_ACKNOWLEDGE_S = 2.0
_AGAIN_S = 0.5
_ANNOUNCE_S = 10.0
# A launcher that was killed leaves a host whose kernel refuses connections: it never comes back, so nobody waits for its lease.
_LOOK_AFTER_S, _LOOK_EVERY_S, _REFUSALS = 4.0, 1.0, 5
# A turn of the loop that took longer: this host stood still, and heard nobody meanwhile, whatever they said.
_STOOD_STILL_S = 3.0
_CHANNEL_OPTIONS = [
    # notice within about 10 s that the other side's host or network is gone, also while nothing is sent
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_reconnect_backoff_ms", 2000),
]


def follow(
    host: Host,
    follower: str,
    *,
    first_contact_s: float,
    lease_s: float,
    stopped: threading.Event,
    on_state: Callable[[HostState], None] = lambda state: None,
    gave_up: Callable[[], str | None] = lambda: None,
) -> HostState | None:
    """Follows a host's state until it is final; None if `stopped` was set first.

    Args:
        host: whom to follow.
        follower: this host's name.
        first_contact_s: how long the other host may take to come up.
        lease_s: how long, after that, it may be silent. It says something every 2 s. Time in which this host stood still itself
            (a paused machine) does not count.
        stopped: ends the wait.
        on_state: called with each new state.
        gave_up: why that host failed before it had a state to publish, if it said so (`HealthServer.failure_of`).

    Raises:
        JobError: the host did not come up, or gave up, or was lost: silent for the whole lease, or its launcher is gone for
            certain.
    """
    messages: queue.SimpleQueue[HostState | JobError | str] = queue.SimpleQueue()
    finished = threading.Event()
    channel = connect(host, _CHANNEL_OPTIONS)
    reader = threading.Thread(target=_read_states, args=(channel, follower, messages, finished), daemon=True)
    reader.start()
    started = last_sign = last_turn = time.monotonic()
    state: HostState | None = None
    problem = "no connection"
    place = f"{host.name} ({host.address}:{host.health_port})"
    refused, next_look = 0, 0.0
    try:
        while not stopped.is_set():
            now = time.monotonic()
            if now - last_turn > _STOOD_STILL_S:
                last_sign += now - last_turn
            last_turn = now
            if state is None and (reason := gave_up()) is not None:
                raise JobError(reason)
            if state is None and now - last_sign > first_contact_s:
                raise JobError(f"{place} did not come up within {now - started:.0f} s: {problem}")
            if state is not None and now - last_sign > lease_s:
                raise JobError(f"lost {place}, which was {state.phase.value}: no sign of life for {now - last_sign:.0f} s")
            if state is not None and now - last_sign > _LOOK_AFTER_S and now >= next_look:
                next_look = now + _LOOK_EVERY_S
                refused = refused + 1 if _is_refused(host) else 0
                if refused >= _REFUSALS:
                    raise JobError(f"lost {place}, which was {state.phase.value}: its launcher is gone, nobody listens there")
            try:
                message = messages.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(message, JobError):
                raise JobError(f"{place} refuses this host: {message}")
            if isinstance(message, str):
                problem = message
                if state is not None and state.phase is Phase.STOPPING:
                    raise JobError(state.reason or f"{host.name} was stopped")
                continue
            last_sign, refused = time.monotonic(), 0
            if message != state:
                state = message
                on_state(state)
            if state.phase.is_final:
                return state
        return None
    finally:
        finished.set()
        channel.close()


@contextlib.contextmanager
def attending(leader: Host, rank: int, host: str) -> Iterator[None]:
    """Inside, the leader knows that this rank's launcher lives, and notices its end at once also where it can't say a word."""
    request = json.dumps({"rank": rank, "host": host}).encode()
    left = threading.Event()

    def attend() -> None:
        while not left.is_set():
            with contextlib.suppress(grpc.RpcError, ValueError):  # a closed channel
                for _ in channel.unary_stream(f"/{HEALTH_SERVICE}/{ATTEND_METHOD}")(
                    request, wait_for_ready=True, metadata=introduction()
                ):
                    pass
            left.wait(_AGAIN_S)

    with connect(leader, _CHANNEL_OPTIONS) as channel:
        threading.Thread(target=attend, daemon=True).start()
        try:
            yield
        finally:
            left.set()


def report_rank(leader: Host, report: RankReport, timeout_s: float) -> bool:
    """Tells the leader how a rank ended; False if the leader could not be reached in time (it may have ended first)."""
    with connect(leader, _CHANNEL_OPTIONS) as channel:
        try:
            channel.unary_unary(f"/{HEALTH_SERVICE}/Report")(
                json.dumps(asdict(report)).encode(), timeout=timeout_s, wait_for_ready=True, metadata=introduction()
            )
        except grpc.RpcError:
            return False
    return True


def _read_states(
    channel: grpc.Channel,
    follower: str,
    messages: queue.SimpleQueue[HostState | JobError | str],
    finished: threading.Event,
) -> None:
    """Puts states, a string for each lost connection, or an error where no further try can help, until finished."""
    request = json.dumps({"host": follower}).encode()
    state: HostState | None = None
    while not finished.is_set():
        try:
            follow_it = channel.unary_stream(f"/{HEALTH_SERVICE}/Follow")
            for raw in follow_it(request, wait_for_ready=True, metadata=introduction()):
                message = status.parsed(raw)
                state = HostState(message["host"], Phase(message["phase"]), message["reason"])
                if state.phase.is_final:
                    # before the main thread knows and closes the channel: the other side waits for this
                    acknowledge = channel.unary_unary(f"/{HEALTH_SERVICE}/Acknowledge")
                    acknowledge(request, timeout=_ACKNOWLEDGE_S, metadata=introduction())
                    messages.put(state)
                    return
                messages.put(state)
        except grpc.RpcError as error:
            if state is not None and state.phase.is_final:
                messages.put(state)
                return
            problem = str(error.details() or error.code().name.lower()).splitlines()[0]
            messages.put(JobError(problem) if error.code() is grpc.StatusCode.UNAUTHENTICATED else problem)
        except (ValueError, KeyError, TypeError) as error:
            messages.put(f"not a host state: {error}")
        finished.wait(_AGAIN_S)


def announce_failure(host: str, others: Sequence[Host], reason: str) -> None:
    """Tells the other hosts of a job that this one gives up, which has no state that they could follow. Who is not up in some
    seconds is not told."""
    message = json.dumps({"host": host, "reason": reason}).encode()

    def tell(other: Host) -> None:
        with contextlib.suppress(grpc.RpcError), connect(other) as channel:
            channel.unary_unary(f"/{HEALTH_SERVICE}/{FAIL_METHOD}")(
                message, timeout=_ANNOUNCE_S, wait_for_ready=True, metadata=introduction()
            )

    if others:
        with ThreadPoolExecutor(len(others)) as pool:
            list(pool.map(tell, others))


def _is_refused(host: Host) -> bool:
    try:
        socket.create_connection((host.address, host.health_port), timeout=1.0).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
