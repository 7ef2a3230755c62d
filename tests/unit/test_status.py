"""A host's status over a real socket; test_supervisor.py has the one of real servers."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from hetero_tfdata.cluster import Host
from hetero_tfdata.errors import ConfigurationError, JobError
from hetero_tfdata.launch.health import HealthServer
from hetero_tfdata.service.cpus import usable_cpus
from hetero_tfdata.service.status import HEALTH_SERVICE, STATUS_METHOD, HostStatus, Phase, ServerStatus, ask_status
from hetero_tfdata.service.versions import installed_tensorflow, other_tensorflows
from support import clean_environment, free_blocks

DISPATCHER = ServerStatus("dispatcher", 18100, True, True, 0, 0, 4.5, 1.0)
WORKER = ServerStatus("worker 0", 18110, True, True, 1, 17, 6.25, 2.5)
DEAD = ServerStatus("worker 1", 18111, False, False, 5, 3, 0.0, None)


@pytest.fixture
def host() -> Host:
    return Host("algo-1", "127.0.0.1", free_blocks(1)[0])


def test_a_host_without_servers(host):
    with HealthServer(host):
        assert ask_status(host, 10) == HostStatus(
            "algo-1", Phase.STARTING, None, usable_cpus(), tensorflow=installed_tensorflow()
        )


def test_phase_reason_and_servers_arrive_as_they_are_when_asked(host):
    with HealthServer(host) as health:
        servers = [DISPATCHER, WORKER]
        health.show(lambda: servers)
        health.publish(Phase.SERVING)
        told = ask_status(host, 10)
        assert (told.host, told.phase, told.reason, told.usable_cpus) == ("algo-1", Phase.SERVING, None, usable_cpus())
        assert (told.workers, told.dispatcher) == ((WORKER,), DISPATCHER)
        servers.append(DEAD)
        health.publish(Phase.FAILED, "worker 1 died")
        status = ask_status(host, 10)
    assert (status.phase, status.reason, status.workers) == (Phase.FAILED, "worker 1 died", (WORKER, DEAD))


def test_nobody_there_is_told_at_once(host):
    started = time.monotonic()
    with pytest.raises(JobError, match=rf"algo-1 \(127.0.0.1:{host.health_port}\) did not tell its state.*unavailable"):
        ask_status(host, 30)
    assert time.monotonic() - started < 10


def test_no_answer_ends_at_the_deadline(host):
    """The last resort of a watchdog must not hang itself: the port is open, nobody answers."""
    code = (
        f"import socket, time; s = socket.create_server(('127.0.0.1', {host.health_port})); print(flush=True); time.sleep(60)"
    )
    mute = subprocess.Popen([sys.executable, "-c", code], env=clean_environment(), stdout=subprocess.PIPE)
    try:
        mute.stdout.readline()
        started = time.monotonic()
        with pytest.raises(JobError, match="did not tell its state within 1 s: deadline_exceeded"):
            ask_status(host, 1)
        assert time.monotonic() - started < 5
    finally:
        mute.kill()
        mute.wait()


@pytest.mark.parametrize("answer", [b"\xff", b"[]", b"{}", json.dumps({"phase": "asleep"}).encode()])
def test_an_answer_of_another_kind_is_an_error_that_says_so(host, answer):
    server = grpc.server(ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH_SERVICE, {STATUS_METHOD: handler}),))
    server.add_insecure_port(f"127.0.0.1:{host.health_port}")
    server.start()
    try:
        with pytest.raises(JobError, match="expected the same version of hetero_tfdata on every host"):
            ask_status(host, 10)
    finally:
        server.stop(0)


@pytest.mark.parametrize(
    ("there", "others"),
    [("2.12.1", {"algo-1": "2.12.1"}), ("2.15.0", {}), ("2.15.1", {}), (None, {}), ("1.15.1", {"algo-1": "1.15.1"})],
)
def test_hosts_with_another_tensorflow(there, others, host, monkeypatch):
    monkeypatch.setattr("hetero_tfdata.service.versions.installed_tensorflow", lambda: there)
    absent = Host("algo-2", "127.0.0.1", host.first_port + 40)
    with HealthServer(host):
        assert other_tensorflows("2.15.1", [host, absent]) == others


def test_another_tensorflow_is_refused_and_both_versions_are_named(monkeypatch):
    home = importlib.import_module("hetero_tfdata.service.distribute")
    monkeypatch.setattr("hetero_tfdata.service.versions.other_tensorflows", lambda here, hosts: {"algo-1": "2.12.1"})
    with pytest.raises(ConfigurationError, match=r"2\.15\.1 here, 2\.12\.1 on algo-1: .* one image for all hosts"):
        home._require_one_version("2.15.1", ())


def test_the_version_is_the_one_that_is_imported():
    tensorflow = pytest.importorskip("tensorflow")
    assert installed_tensorflow() == tensorflow.__version__
