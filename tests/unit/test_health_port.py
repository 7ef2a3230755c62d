"""Who is heard on a health port, over real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time

import grpc
import pytest

from hetero_tfdata.cluster import Host
from hetero_tfdata.errors import ConfigurationError, JobError
from hetero_tfdata.launch.following import follow, report_rank
from hetero_tfdata.launch.health import HealthServer, Phase, RankReport
from hetero_tfdata.service import demand, health_port
from hetero_tfdata.service.demand import Demand
from hetero_tfdata.service.health_port import TOKEN_VARIABLE, job_token
from hetero_tfdata.service.members import Members
from hetero_tfdata.service.shares import Share, teller
from hetero_tfdata.service.status import HEALTH_SERVICE, ask_status
from support import free_blocks, wait_for

TOKEN = "a-token_of-the-job-0123456789"


@pytest.fixture
def host() -> Host:
    return Host("algo-1", "127.0.0.1", free_blocks(1)[0])


@pytest.fixture
def health(host, monkeypatch):
    """A health port of a job that has a token."""
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with HealthServer(host) as server:
        yield server


def followed(host: Host, **deadlines) -> object:
    settings = {"first_contact_s": 20.0, "lease_s": 10.0, "stopped": threading.Event()} | deadlines
    return follow(host, "algo-2", **settings)


def test_with_the_token_everything_works(host, health):
    met, shares = [], []
    health.take_demands(lambda what, timeout_s: met.append(what))
    health.take_shares(shares.append)
    assert ask_status(host, 10).phase is Phase.STARTING
    assert report_rank(host, RankReport(1, "algo-2", 0), 10)
    demand.make([(host, Demand({"my_ops": ("MyOp",)}, 2))], 10, print)
    assert teller(host)(Share("train", 1, 0, 2, 20, "open", None, False))
    health.publish(Phase.SUCCEEDED)
    assert followed(host).phase is Phase.SUCCEEDED
    assert health.wait_until_informed({"algo-2"}, 5) == set()
    assert (len(met), len(shares), set(health.reports)) == (1, 1, {1})


@pytest.mark.parametrize("shown", [None, "another-token-0123456789", TOKEN[:-1], TOKEN + "x"])
def test_without_it_nothing_is_heard(host, health, monkeypatch, shown):
    met = []
    health.take_demands(lambda what, timeout_s: met.append(what))
    monkeypatch.delenv(TOKEN_VARIABLE) if shown is None else monkeypatch.setenv(TOKEN_VARIABLE, shown)
    for refused in (
        lambda: ask_status(host, 10),
        lambda: demand.make([(host, Demand({}, 2))], 10, print),
    ):
        with pytest.raises(Exception, match="unauthenticated: expected the job's HETERO_TFDATA_TOKEN"):
            refused()
    assert not report_rank(host, RankReport(1, "algo-2", 1, "a lie"), 10)
    assert not teller(host)(Share("train", 1, 0, 2, 20, "open", None, False))
    assert (met, health.reports, health.first_failure) == ([], {}, None)


def test_a_follower_with_another_token_is_told_at_once(host, health, monkeypatch):
    """Not after the 20 minutes that a host may take to come up."""
    monkeypatch.setenv(TOKEN_VARIABLE, "another-token-0123456789")
    started = time.monotonic()
    with pytest.raises(JobError, match=r"algo-1 \(127.0.0.1:\d+\) refuses this host: expected the job's HETERO_TFDATA_TOKEN"):
        followed(host, first_contact_s=600.0)
    assert time.monotonic() - started < 10
    assert health.wait_until_informed({"algo-2"}, 0.1) == {"algo-2"}


@pytest.mark.parametrize("token", ["short", "x" * 129, "sixteen characters with blanks", "ümlautümlautümlaut"])
def test_a_variable_that_is_no_token_is_refused_and_not_shown(host, monkeypatch, token):
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    with pytest.raises(ConfigurationError, match="expected 16 to 128 letters, digits, - and _") as raised:
        HealthServer(host)
    assert token not in str(raised.value)


def test_no_token_is_none():
    assert job_token({}) is None
    assert job_token({TOKEN_VARIABLE: ""}) is None
    assert job_token({TOKEN_VARIABLE: TOKEN}) == TOKEN


@pytest.mark.parametrize(
    ("peer", "is_member"),
    [
        ("ipv4:127.0.0.1:5000", True),
        ("ipv6:%5B::1%5D:5000", True),
        ("ipv6:[::ffff:127.0.0.1]:5000", True),
        ("ipv4:10.77.0.5:5000", True),
        ("ipv6:%5B::ffff:10.77.0.5%5D:5000", True),
        ("ipv4:10.77.0.6:5000", False),
        ("ipv4:10.77.0.50:5000", False),
        ("unix:/tmp/socket", False),
        ("", False),
        ("ipv4:10.77.0.5.evil.example:5000", False),
        ("ipv4:algo-1:5000", False),
        ("ipv6:[fd00::7]:5000", True),
        ("ipv6:[fd00::8]:5000", False),
    ],
)
def test_members_are_known_by_their_addresses(peer, is_member):
    hosts = [Host("algo-1", "10.77.0.5"), Host("algo-2", "fd00::7"), Host("algo-3", "no-such-host.invalid")]
    assert (peer in Members(hosts)) is is_member


def test_a_host_whose_name_resolves_later_becomes_a_member(monkeypatch):
    known: list[str] = []

    def look_up(name, port):
        if not known:
            raise socket.gaierror("not yet")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (known[0], 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    members = Members([Host("algo-7", "algo-7")])
    assert "ipv4:10.77.0.7:1" not in members
    known.append("10.77.0.7")
    wait_for(lambda: "ipv4:10.77.0.7:1" in members, 5, "the name to be looked up again")


def own_address() -> str | None:
    """An address of this machine that is not 127.0.0.1; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("198.51.100.1", 9))
        return probe.getsockname()[0]
    return None


@pytest.mark.skipif(own_address() is None, reason="this machine has no address but 127.0.0.1")
def test_a_foreign_address_is_not_heard(host):
    with HealthServer(host, [host]) as health, grpc.insecure_channel(f"{own_address()}:{host.health_port}") as channel:
        for method in ("Status", "Report", "Demand", "Share", "Acknowledge"):
            with pytest.raises(grpc.RpcError) as raised:
                channel.unary_unary(f"/{HEALTH_SERVICE}/{method}")(b'{"host": "algo-1"}', timeout=10)
            assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(grpc.RpcError) as raised:
            next(channel.unary_stream(f"/{HEALTH_SERVICE}/Follow")(b"{}", timeout=10))
        assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert health.reports == {}


def sockets_of_this_process() -> int:
    links = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return sum(link.startswith("socket:") for link in links)


def test_garbage_and_half_open_connections_change_nothing_and_leave_nothing(host, health):
    """Random bytes, what only begins as HTTP/2, silence: the host answers the others all the while."""
    assert ask_status(host, 10).phase is Phase.STARTING
    before = sockets_of_this_process(), threading.active_count()
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    openings = [secrets.token_bytes(300), preface, preface + secrets.token_bytes(300), b"GET / HTTP/1.1\r\n\r\n", b""]
    with contextlib.ExitStack() as connections:
        for number in range(200):
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", host.health_port), timeout=10))
            with contextlib.suppress(OSError):
                connection.sendall(openings[number % len(openings)])
        assert ask_status(host, 10).phase is Phase.STARTING
        # 200 of ours; the port's own 200 go within its patience
        wait_for(lambda: sockets_of_this_process() <= before[0] + 200 + 5, 30, "the port to let go of half-open connections")
    wait_for(lambda: sockets_of_this_process() <= before[0] + 5, 10, "the sockets to be closed")
    assert threading.active_count() <= before[1] + 8
    assert ask_status(host, 10).phase is Phase.STARTING


def test_messages_that_are_too_long_are_refused(host, health):
    with grpc.insecure_channel(f"127.0.0.1:{host.health_port}") as channel:
        call = channel.unary_unary(f"/{HEALTH_SERVICE}/Report")
        with pytest.raises(grpc.RpcError) as raised:
            call(b" " * 100_000, timeout=10, metadata=(("hetero-tfdata-token", TOKEN),))
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert health.reports == {}


def shown() -> tuple[tuple[str, str], ...]:
    return (("hetero-tfdata-token", TOKEN),)


def test_an_address_that_calls_without_a_pause_is_told_to_stop_and_heard_again(host, health, monkeypatch):
    monkeypatch.setattr(health_port, "_CALLS_PER_S", 20.0)
    monkeypatch.setattr(health_port, "_CALLS_IN_A_BURST", 50.0)
    with grpc.insecure_channel(f"127.0.0.1:{host.health_port}") as channel:
        ask = channel.unary_unary(f"/{HEALTH_SERVICE}/Status")
        said: set[str] = set()
        end = time.monotonic() + 30
        while not any("calls a second" in text for text in said) and time.monotonic() < end:
            calls = [ask.future(b"{}", timeout=20, metadata=shown()) for _ in range(100)]
            refused = {call.details() for call in calls if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert all(call.code() in (grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED) for call in calls)
            said |= refused
    assert "more than 20 calls a second from one address" in said
    wait_for(lambda: heard(host), 5, "the port to hear this address again")


def heard(host) -> bool:
    with contextlib.suppress(JobError):
        return ask_status(host, 5).phase is Phase.STARTING
    return False


def test_readers_that_take_nothing_hold_up_nobody(host, health):
    """They follow the host's state and never read: each may wait as long as it likes."""
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{host.health_port}"))
            channel.unary_stream(f"/{HEALTH_SERVICE}/Follow")(b"{}", timeout=60, metadata=shown())
        assert ask_status(host, 10).phase is Phase.STARTING
        health.publish(Phase.SERVING)
        assert ask_status(host, 10).phase is Phase.SERVING


def test_a_report_that_is_sent_again_changes_nothing(host, health):
    said = {"rank": 0, "host": "algo-1", "exit_code": 0, "reason": None}
    with grpc.insecure_channel(f"127.0.0.1:{host.health_port}") as channel:
        report = channel.unary_unary(f"/{HEALTH_SERVICE}/Report")
        for message in (said, said, {**said, "exit_code": 1, "reason": "changed its mind"}):
            report(json.dumps(message).encode(), timeout=10, metadata=shown())
    assert {rank: (told.exit_code, told.reason) for rank, told in health.reports.items()} == {0: (0, None)}
