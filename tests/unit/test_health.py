"""Hosts that follow each other over real sockets."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import pytest

from hetero_tfdata.cluster import Host
from hetero_tfdata.errors import JobError, PortInUseError
from hetero_tfdata.launch.following import announce_failure, attending, follow, report_rank
from hetero_tfdata.launch.health import HealthServer, HostState, Phase, RankReport
from support import clean_environment, free_blocks, wait_for


@pytest.fixture
def host() -> Host:
    return Host("algo-1", "127.0.0.1", free_blocks(1)[0])


def follow_in_thread(host: Host, **options):
    seen: list[HostState] = []
    result: list[object] = []

    def run() -> None:
        settings = {"first_contact_s": 10.0, "lease_s": 10.0, "stopped": threading.Event()} | options
        try:
            result.append(follow(host, "algo-2", on_state=seen.append, **settings))
        except JobError as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, seen, result


def test_follower_sees_the_phases_and_the_leader_knows_it_was_told(host):
    with HealthServer(host) as health:
        thread, seen, result = follow_in_thread(host)
        wait_for(lambda: seen, 10, "the first state")
        health.publish(Phase.TRAINING)
        wait_for(lambda: len(seen) == 2, 10, "the second state")
        assert health.wait_until_informed({"algo-2"}, 0.1) == {"algo-2"}, "only the final state counts"
        health.publish(Phase.FAILED, "rank 3 was killed")
        assert health.wait_until_informed({"algo-2"}, 10) == set()
        thread.join(10)
    assert result == [HostState("algo-1", Phase.FAILED, "rank 3 was killed")]
    assert [state.phase for state in seen] == [Phase.STARTING, Phase.TRAINING, Phase.FAILED]


def test_a_final_state_stays(host):
    with HealthServer(host) as health:
        health.publish(Phase.FAILED, "first cause")
        health.publish(Phase.SUCCEEDED)
        thread, _, result = follow_in_thread(host)
        thread.join(10)
    assert result == [HostState("algo-1", Phase.FAILED, "first cause")]


def test_a_host_that_comes_up_later_is_found(host):
    thread, _, result = follow_in_thread(host)
    time.sleep(1)
    with HealthServer(host) as health:
        health.publish(Phase.SUCCEEDED)
        thread.join(15)
    assert result == [HostState("algo-1", Phase.SUCCEEDED)]


def test_a_host_that_never_comes_up_is_named(host):
    thread, _, result = follow_in_thread(host, first_contact_s=1.0)
    thread.join(10)
    assert isinstance(result[0], JobError)
    assert f"algo-1 (127.0.0.1:{host.health_port}) did not come up within 1 s" in str(result[0])


def test_a_lost_host_is_named_with_what_it_was_doing(host):
    with HealthServer(host) as health:
        health.publish(Phase.TRAINING)
        thread, seen, result = follow_in_thread(host, lease_s=1.0)
        wait_for(lambda: seen, 10, "the first state")
    thread.join(10)
    assert isinstance(result[0], JobError)
    assert "lost algo-1" in str(result[0])
    assert "was training" in str(result[0])


def test_a_host_whose_launcher_is_gone_for_certain_is_lost_before_its_lease(host):
    """Its kernel refuses connections."""
    with HealthServer(host) as health:
        health.publish(Phase.TRAINING)
        thread, seen, result = follow_in_thread(host, lease_s=60.0)
        wait_for(lambda: seen, 10, "the first state")
    began = time.monotonic()
    thread.join(30)
    assert 5 < time.monotonic() - began < 20
    assert (
        str(result[0]) == f"lost algo-1 (127.0.0.1:{host.health_port}), which was training: its launcher is gone, nobody "
        "listens there"
    )


def test_a_rank_that_is_gone_without_a_word_is_known(host):
    with HealthServer(host) as health:
        with attending(host, 1, "algo-1"):
            time.sleep(1)
            assert health.gone_rank() is None
        gone = wait_for(health.gone_rank, 5, "the end of rank 1")
        assert (gone.rank, gone.host, gone.reason) == (1, "algo-1", "its launcher was killed, or its host is lost")
        assert health.gone_rank(for_s=60) is None
        assert health.first_failure is None
        assert report_rank(host, RankReport(1, "algo-1", 0), 5)
        assert health.gone_rank() is None, "it has said that all was well"


def test_a_host_that_restarts_within_the_lease_is_not_lost(host):
    with HealthServer(host) as health:
        health.publish(Phase.TRAINING)
        thread, seen, result = follow_in_thread(host, lease_s=20.0)
        wait_for(lambda: seen, 10, "the first state")
    with HealthServer(host) as health:
        health.publish(Phase.SUCCEEDED)
        thread.join(20)
    assert result == [HostState("algo-1", Phase.SUCCEEDED)]


FOLLOWER = """
import sys, threading
from hetero_tfdata.cluster import Host
from hetero_tfdata.launch.following import follow
host = Host("algo-1", "127.0.0.1", int(sys.argv[1]))
seen = lambda state: print(state.phase.value, flush=True)
print(follow(host, "algo-2", first_contact_s=20.0, lease_s=4.0, stopped=threading.Event(), on_state=seen).phase.value)
"""


def test_a_host_that_stood_still_itself_does_not_think_that_the_other_one_is_lost(host):
    """Stopped for longer than the lease: what was said meanwhile it could not hear."""
    with HealthServer(host) as health:
        health.publish(Phase.TRAINING)
        command = [sys.executable, "-c", FOLLOWER, str(host.first_port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environment()) as follower:
            assert follower.stdout.readline() == "training\n"
            follower.send_signal(signal.SIGSTOP)
            time.sleep(6)
            follower.send_signal(signal.SIGCONT)
            time.sleep(2)
            assert follower.poll() is None
            health.publish(Phase.SUCCEEDED)
            assert follower.communicate(timeout=20)[0].split() == ["succeeded", "succeeded"]


def test_a_host_that_gives_up_at_its_start_says_so_to_the_others(host):
    other = Host("algo-2", "127.0.0.1", free_blocks(1)[0])
    with HealthServer(host) as health:
        began = time.monotonic()
        announce_failure("algo-2", [host], "the dispatcher's port is in use")
        assert time.monotonic() - began < 5
        assert (health.failure_of("algo-2"), health.failure_of("algo-3")) == ("the dispatcher's port is in use", None)
        thread, _, result = follow_in_thread(other, first_contact_s=60.0, gave_up=lambda: health.failure_of("algo-2"))
        thread.join(10)
    assert str(result[0]) == "the dispatcher's port is in use"


def test_following_can_be_stopped(host):
    stopped = threading.Event()
    with HealthServer(host):
        thread, seen, result = follow_in_thread(host, stopped=stopped)
        wait_for(lambda: seen, 10, "the first state")
        stopped.set()
        thread.join(5)
    assert result == [None]


def test_rank_reports_and_their_first_failure(host):
    with HealthServer(host) as health:
        assert report_rank(host, RankReport(2, "algo-3", 0), 10)
        assert not health.wait_for_reports(2, 0.1)
        assert report_rank(host, RankReport(1, "algo-1", 137, "killed"), 10)
        assert report_rank(host, RankReport(3, "algo-1", 1, "an echo"), 10)
        assert health.wait_for_reports(3, 1)
        assert health.first_failure == RankReport(1, "algo-1", 137, "killed")


def test_report_to_nobody_gives_up(host):
    assert not report_rank(host, RankReport(1, "algo-1", 1), 0.5)


def test_taken_port(host):
    with socket.socket() as other:
        other.bind(("0.0.0.0", host.health_port))
        other.listen()
        with pytest.raises(PortInUseError, match=f"health port {host.health_port} on algo-1 is in use"):
            HealthServer(host)


@pytest.mark.parametrize("message", [b"", b"\xff\x00", b"[]", b'{"rank": "x", "host": 1}', b"{}"])
def test_bytes_that_are_no_report_change_nothing(host, message):
    with HealthServer(host) as health, grpc.insecure_channel(f"127.0.0.1:{host.health_port}") as channel:
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary("/hetero_tfdata.Health/Report")(message, timeout=5)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert health.reports == {}
