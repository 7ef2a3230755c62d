"""Traps of tf.data service that lie in its servers and what crosses between them; the table is in test_traps.py."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow as tf

from hetero_tfdata import distribute
from hetero_tfdata.cluster.instances import instance
from hetero_tfdata.errors import DatasetError, NotReadyError
from hetero_tfdata.service.readiness import DispatcherClient
from hetero_tfdata.service.stalls import Stall, diagnose
from hetero_tfdata.service.worker_count import worker_count
from relay import Relay
from support import clean_environment, free_blocks, wait_for

pytestmark = pytest.mark.peers

HOROVODRUN = str(Path(sys.executable).with_name("horovodrun"))
SERVICE = tf.data.experimental.service
DYNAMIC = SERVICE.ShardingPolicy.DYNAMIC

# Workers in a process of their own, each given as ADVERTISED_ADDRESS,PORT; an empty address is TensorFlow's default.
WORKERS = """
import sys
import tensorflow as tf
service = tf.data.experimental.service
workers = []
for word in sys.argv[2:]:
    address, port = word.split(",")
    workers.append(service.WorkerServer(service.WorkerConfig(
        dispatcher_address=sys.argv[1], worker_address=address or None, port=int(port), heartbeat_interval_ms=100)))
print("READY", flush=True)
sys.stdin.read()
"""


class Service:
    """A plain dispatcher here, and workers in processes of their own."""

    def __init__(self) -> None:
        config = SERVICE.DispatcherConfig(worker_timeout_ms=1000, job_gc_check_interval_ms=500)
        self.dispatcher = SERVICE.DispatchServer(config)
        self.address = self.dispatcher.target
        self.workers: list[subprocess.Popen[str]] = []

    def start_worker(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WORKERS, self.address.partition("://")[2], *words]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.workers.append(subprocess.Popen(command, env=clean_environment(), text=True, **pipes))
        assert self.workers[-1].stdout.readline().strip() == "READY"
        return self.workers[-1]

    def start_behind(self, count: int) -> list[Relay]:
        """That many workers in one process, each behind a relay, which is what it advertises."""
        (first,) = free_blocks(1)
        relays = [Relay(first + number) for number in range(count)]
        self.start_worker(*(f"127.0.0.1:{relay.port},{first + number}" for number, relay in enumerate(relays)))
        return relays

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.communicate()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.end()


def in_flight(dataset: tf.data.Dataset, relays: list[Relay]) -> list[int]:
    """Requests that each worker has not answered, of a reader that wants many elements while all answers are held back."""
    read = threading.Event()

    def reader() -> None:
        for _ in dataset.take(400 * len(relays)):
            read.set()

    reading = threading.Thread(target=reader, daemon=True)
    reading.start()
    assert read.wait(60)
    wait_for(lambda: all(relay.requests for relay in relays), 60, "all workers to be asked")
    for relay in relays:
        relay.passes_answers.clear()
    wait_for(lambda: all(relay.requests > relay.answers for relay in relays), 60, "a request to each")
    time.sleep(2)  # for more of them
    waiting = [relay.requests - relay.answers for relay in relays]
    for relay in relays:
        relay.passes_answers.set()
    reading.join(120)
    assert not reading.is_alive()
    return waiting


def test_one_request_is_in_flight_for_each_worker(service):
    """So a host with one worker waits for each answer before it is asked again. A host of ours has several workers."""
    numbers = tf.data.Dataset.range(10**9)
    (alone,) = service.start_behind(1)
    with alone:
        plain = numbers.apply(SERVICE.distribute(DYNAMIC, service.address, max_outstanding_requests=16))
        assert in_flight(plain, [alone]) == [1]

    several = Service()
    relays = several.start_behind(3)
    try:
        ours = numbers.apply(distribute(service=several.address, ready_timeout_s=30))
        assert in_flight(ours, relays) == [1, 1, 1]
    finally:
        several.end()
    data_host = instance("ml.c5.18xlarge")
    assert worker_count(data_host.vcpu, data_host.baseline_gbps) == 8, "what `launch` starts there"


def test_by_default_images_are_compressed(service):
    """Constant ones to nothing, which turns a benchmark upside down; photographs for more CPU time than they save."""
    images = tf.data.Dataset.range(20).map(lambda _: tf.zeros([100, 100, 100], tf.uint8))
    raw_bytes = 20 * 1_000_000
    (relay,) = service.start_behind(1)
    with relay:
        assert len(list(images.apply(SERVICE.distribute(DYNAMIC, service.address)))) == 20
        plain_bytes = relay.answer_bytes
        assert len(list(images.apply(distribute(service=service.address, ready_timeout_s=30)))) == 20
        assert plain_bytes < 0.1 * raw_bytes
        assert relay.answer_bytes - plain_bytes > raw_bytes


def test_by_default_servers_are_at_localhost(service, make_job, write_script):
    """Which means another host on each host that is told so."""
    service.start_worker(",0")
    assert service.dispatcher.target.startswith("grpc://localhost:")
    with DispatcherClient(service.address) as client:
        (address,) = client.workers()
    assert address.startswith("localhost:")

    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]}, address="127.0.0.2")
    script = write_script("""
import os
import tensorflow as tf
from hetero_tfdata import Cluster, distribute
from hetero_tfdata.service.readiness import DispatcherClient
assert len(list(tf.data.Dataset.range(9).apply(distribute(ready_timeout_s=120)))) == 9
host = Cluster.discover().dispatcher_host
with DispatcherClient(f"grpc://{host.address}:{host.dispatcher_port}") as client:
    print("WORKERS", *client.workers())
""")
    for host in job.hosts:
        job.launch(host, script, "--workers", "2")
    assert job.wait(180) == {"algo-1": 0, "algo-2": 0}, job.logs()
    first = job.first_port["algo-1"]
    told = job.log("algo-2").split("WORKERS ")[1].splitlines()[0].split()
    assert sorted(told) == [f"127.0.0.2:{first + 10}", f"127.0.0.2:{first + 11}"]


def test_the_number_of_workers_never_falls(service):
    lost, _ = (service.start_worker(",0") for _ in range(2))
    assert service.dispatcher._num_workers() == 2
    with DispatcherClient(service.address) as client:
        assert len(client.workers()) == 2
    lost.kill()
    lost.communicate()
    time.sleep(5)  # five times the timeout after which the dispatcher is to think a worker lost
    assert service.dispatcher._num_workers() == 2

    found = diagnose(service.address, ())
    assert found.stall is Stall.UNREACHABLE
    assert "1 of 2 workers take no connection: localhost:" in found.found
    with pytest.raises(NotReadyError, match="a connection to the worker at localhost:"):
        tf.data.Dataset.range(9).apply(distribute(service=service.address, ready_timeout_s=3))


STOP = """
import tensorflow as tf
service = tf.data.experimental.service
dispatcher = service.DispatchServer()
worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=dispatcher.target.partition("://")[2]))
dataset = tf.data.Dataset.range(10**9).apply(service.distribute("distributed_epoch", dispatcher.target))
elements = iter(dataset)
next(elements)
print("STOPPING", flush=True)
{order}
print("STOPPED", flush=True)
"""
DISPATCHER_FIRST = "dispatcher._stop(); worker._stop()"
WORKER_FIRST = "worker._stop(); dispatcher._stop()"


@pytest.mark.parametrize(("order", "ends"), [(DISPATCHER_FIRST, False), (WORKER_FIRST, True)], ids=["wrong", "right"])
def test_servers_in_the_training_process_stop_in_one_order_only(order, ends):
    """A worker whose dispatcher is gone tries to reach it for an hour, in its own shutdown as well."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOP.format(order=order)],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout.readline() == "STOPPING\n"
        if ends:
            assert process.wait(60) == 0
            return
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(20)
    finally:
        process.kill()
        process.communicate()


def test_servers_of_ours_end_whichever_dies_first(write_script):
    """They are children. Here their dispatcher is killed, and the script ends with a live iterator."""
    script = write_script("""
import os, signal, sys, time
import psutil
import tensorflow as tf
from hetero_tfdata import distribute
elements = iter(tf.data.Dataset.range(10**9).apply(distribute(ready_timeout_s=120)))
next(elements)
servers = {child.pid: child.cmdline() for child in psutil.Process().children(recursive=True)}
for pid, command in servers.items():
    if "dispatcher" in command:
        os.kill(pid, signal.SIGKILL)
        print("SERVERS", *servers, flush=True)
""")
    done = subprocess.run(
        [HOROVODRUN, "--gloo", "-np", "2", "-H", "localhost:2", sys.executable, str(script)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pids = done.stdout.split("SERVERS ")[1].splitlines()[0].split()
    assert len(pids) > 1
    assert not [pid for pid in pids if psutil.pid_exists(int(pid))]


PLAIN_WITH_TOO_MUCH = """
import numpy as np
import tensorflow as tf
service = tf.data.experimental.service
dispatcher = service.DispatchServer()
worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=dispatcher.target.partition("://")[2]))
dataset = tf.data.Dataset.from_tensor_slices(np.zeros([2200, 10**6], np.uint8))
try:
    for _ in dataset.apply(service.distribute("distributed_epoch", dispatcher.target)):
        print("AN ELEMENT", flush=True)
except BaseException as error:
    print("AN ERROR", error, flush=True)
"""


def test_a_graph_of_more_than_two_gigabytes_aborts_the_process(service):
    """With 9 GB of memory while it does."""
    if psutil.virtual_memory().available < 12e9:
        pytest.skip("needs 12 GB of memory")
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_WITH_TOO_MUCH], env=clean_environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == -signal.SIGABRT, done.stderr
    assert done.stdout == "", "no element, no error"
    service.start_worker(",0")
    with pytest.raises(DatasetError, match=r"graph-too-large: the dataset's graph, 2\.2 GB"):
        tf.data.Dataset.from_tensor_slices(np.zeros([2200, 10**6], np.uint8)).apply(distribute(service=service.address))
