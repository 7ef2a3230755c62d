"""Demands on their way: over real sockets, to hosts that meet them or don't. test_supervisor.py has those of real servers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import grpc
import pytest

from hetero_tfdata import Wire, distribute, errors
from hetero_tfdata.cluster import Host
from hetero_tfdata.launch.health import HealthServer
from hetero_tfdata.service import demand
from hetero_tfdata.service.demand import Demand
from hetero_tfdata.service.demand_port import DemandPort
from hetero_tfdata.service.functions import Functions, PythonFunction
from hetero_tfdata.service.status import HEALTH_SERVICE
from support import free_blocks

FUNCTIONS = Functions(
    (
        PythonFunction("pyfunc_3", "pixels", "decode", "0", "1"),
        PythonFunction("pyfunc_4", "pixels", "crop", "2", "3", ("int64",)),
    ),
    None,
    {"Python": "3.11"},
)
DEMAND = Demand({"my_ops": ("MyOp", "Yours")}, 3)
WITH_FUNCTIONS = replace(DEMAND, functions=FUNCTIONS)


@pytest.fixture
def hosts() -> list[Host]:
    return [Host(f"algo-{number}", "127.0.0.1", first) for number, first in enumerate(free_blocks(2), 1)]


@pytest.fixture
def host(hosts) -> Host:
    return hosts[0]


@pytest.fixture
def came(host) -> Iterator[list[object]]:
    """What a host is told that meets all demands."""
    told: list[object] = []
    with HealthServer(host) as health:
        health.take_demands(lambda what, timeout_s: told.append((what, timeout_s)))
        yield told


def fail_with(error: Exception) -> Callable[[Demand, float], None]:
    def meet(what: Demand, timeout_s: float) -> None:
        raise error

    return meet


def test_a_demand_arrives_as_it_was_made(host, came):
    demand.make([(host, DEMAND)], 20, print)
    assert came == [(DEMAND, 20.0)]


def test_a_demand_says_what_it_is():
    assert str(DEMAND) == "to load my_ops and to have 3 workers"
    assert str(WITH_FUNCTIONS) == "to load my_ops and to import the Python functions decode, crop and to have 3 workers"
    assert str(Demand(workers=2)) == "to have 2 workers"
    assert [bool(what) for what in (Demand(), Demand({"a": ()}), Demand(workers=1))] == [False, True, True]


@pytest.mark.parametrize(
    "fields",
    [{"libraries": {name: ()}} for name in ("", "a b", "../a", ".a", "a.", "a;b", "1a", "a\n")]
    + [{"workers": number} for number in (0, -1, "3", 1.5)]
    + [{"functions": replace(FUNCTIONS, dataset_fn=name)} for name in ("pixels", "pixels:", ":make", "a b:make", "a:b:c")]
    + [{"functions": replace(FUNCTIONS, functions=(PythonFunction("pyfunc_1", "../a", "f", "", ""),))}],
)
def test_what_can_be_no_demand(fields):
    with pytest.raises(ValueError, match="expected"):
        Demand(**fields)


def test_every_host_that_cannot_meet_it_is_named_with_its_reason(hosts):
    first, second = hosts
    with HealthServer(first) as one, closing(DemandPort(second, hosts, fail_with(errors.ConfigurationError("no b")))):
        one.take_demands(fail_with(errors.ConfigurationError("no a")))
        with pytest.raises(errors.ConfigurationError) as raised:
            demand.make([(host, DEMAND) for host in hosts], 20, print)
    assert str(raised.value) == (f"algo-1 (127.0.0.1:{first.health_port}): no a; algo-2 (127.0.0.1:{second.health_port}): no b")


@pytest.mark.parametrize("kind", [errors.PortInUseError, errors.NotReadyError, errors.ServerDiedError])
def test_a_host_s_error_is_of_the_same_kind_here(kind, host):
    with HealthServer(host) as health:
        health.take_demands(fail_with(kind("its own words")))
        with pytest.raises(kind, match=rf"algo-1 \(127.0.0.1:{host.health_port}\): its own words"):
            demand.make([(host, DEMAND)], 20, print)


def test_a_host_that_does_not_answer_is_named_after_a_word_and_the_deadline(host, monkeypatch):
    monkeypatch.setattr(demand, "_FIRST_WORD_S", 0.3)
    monkeypatch.setattr(demand, "_ANSWER_S", 0.2)
    lines: list[str] = []
    enough = threading.Event()
    with HealthServer(host) as health:
        health.take_demands(lambda what, timeout_s: enough.wait(30))
        with pytest.raises(
            errors.NotReadyError, match=r"algo-1 \(.* did not answer when it was told to load my_ops and to have"
        ):
            demand.make([(host, DEMAND)], 1, lines.append)
        enough.set()
    assert lines[0].startswith(f"waiting for algo-1 (127.0.0.1:{host.health_port}) to load my_ops and to have 3 workers: ")


def test_a_host_without_servers_says_so(host):
    told = "was told to load my_ops and to have 3 workers, but runs no servers"
    with HealthServer(host), pytest.raises(errors.ServiceError, match=told):
        demand.make([(host, DEMAND)], 20, print)


def test_a_host_of_another_version_is_an_error_that_says_so(host):
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_insecure_port(f"127.0.0.1:{host.health_port}")
    server.start()
    try:
        with pytest.raises(errors.NotReadyError, match=r"unimplemented: .*expected the same version of hetero_tfdata"):
            demand.make([(host, DEMAND)], 20, print)
    finally:
        server.stop(0)


@pytest.mark.parametrize(
    "message",
    [
        b"\xff",
        b"[]",
        b"{}",
        b'{"libraries": ["os"], "workers": null, "timeout_s": 1}',
        b'{"libraries": {"os;": []}, "workers": null, "timeout_s": 1}',
        b'{"libraries": {"os": 1}, "workers": null, "timeout_s": 1}',
        b'{"libraries": {}, "workers": -1, "timeout_s": 1}',
        b'{"libraries": {}, "workers": 1, "timeout_s": "soon"}',
        b'{"libraries": {}, "workers": 1, "timeout_s": NaN}',
    ],
)
def test_bytes_that_are_no_demand_change_nothing(message, host, came):
    with grpc.insecure_channel(f"127.0.0.1:{host.health_port}") as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(f"/{HEALTH_SERVICE}/{demand.DEMAND_METHOD}")(message, timeout=10)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert came == []


def test_a_taken_port_is_named(host):
    with socket.socket() as other:
        other.bind(("0.0.0.0", host.health_port))
        other.listen()
        with pytest.raises(errors.PortInUseError, match=f"port {host.health_port} on algo-1 is in use by process "):
            DemandPort(host, [host], fail_with(AssertionError()))


def test_servers_of_somebody_else_are_told_nothing():
    with pytest.raises(
        errors.ConfigurationError, match=r"Wire.workers_per_host=3: the servers at grpc://a:1 are not this job's own"
    ):
        distribute(service="grpc://a:1", wire=Wire(workers_per_host=3))


def test_encoded_is_json():
    assert demand.decode(demand.encode(WITH_FUNCTIONS, float("inf"))) == (WITH_FUNCTIONS, 86_400.0)
    sent = json.loads(demand.encode(WITH_FUNCTIONS, 5))
    assert (sent["libraries"], sent["workers"], sent["timeout_s"]) == ({"my_ops": ["MyOp", "Yours"]}, 3, 5)
    assert sent["functions"]["functions"][1]["outputs"] == ["int64"]
