"""What a dataset demands of the hosts that serve it, through whole jobs: libraries of operations, and worker processes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support import addons_library

HOROVODRUN = str(Path(sys.executable).with_name("horovodrun"))
GROUPS = {"data_group": ["algo-1", "algo-3"], "dnn_group": ["algo-2"]}

DATES = """
import itertools
import tensorflow as tf
from hetero_tfdata import Cluster, Wire, distribute, errors

def dates(parse_time):
    months = tf.data.Dataset.range(60).map(lambda number: tf.strings.as_string(number % 12 + 1))
    return months.map(lambda month: parse_time("1970-" + month, time_format="%Y-%m", output_unit="SECOND"))

def sorted_rows(batches):
    return sorted(int(x) for batch in batches for x in tf.reshape(batch, [-1]))
"""


@pytest.fixture
def write_library() -> Callable[[Path, str], None]:
    """Writes modules of operations that no server loads by itself: a library of TensorFlow Addons, which servers do load,
    whose operations get another name of six letters."""
    library = addons_library().read_bytes()

    def write(module: Path, name: str) -> None:
        module.parent.mkdir(exist_ok=True)
        module.with_suffix(".ops").write_bytes(library.replace(b"Addons>", f"{name}>".encode()))
        module.write_text(
            "import pathlib\n"
            "import tensorflow as tf\n"
            "library = tf.load_op_library(str(pathlib.Path(__file__).with_suffix('.ops')))\n"
        )

    return write


def test_data_hosts_that_serve_already_load_the_library_that_a_dataset_needs(make_job, write_script, write_library, tmp_path):
    """No --preload: the module stands beside the script. Plain tf.data service, on the same servers, shows what they lacked.
    A module that the data hosts don't have is an error, and a stream that is read meanwhile goes on."""
    write_library(tmp_path / "beside_the_script.py", "Custom")
    write_library(tmp_path / "trainer" / "only_here.py", "Absent")
    script = write_script(
        DATES
        + """
from hetero_tfdata.service.status import ask_status
import beside_the_script, only_here

running = iter(tf.data.Dataset.range(1000).batch(2).apply(distribute(wire=Wire(keep_batches=True), ready_timeout_s=120)))
rows = sorted_rows(itertools.islice(running, 20))
dispatcher = Cluster.discover().dispatcher_host
service = tf.data.experimental.service
address = f"grpc://{dispatcher.address}:{dispatcher.dispatcher_port}"
try:
    list(dates(beside_the_script.library.custom_parse_time).apply(service.distribute("parallel_epochs", address)))
except tf.errors.OpError as error:
    print("PLAIN", error.message)
try:
    dates(only_here.library.absent_parse_time).apply(distribute())
except errors.ConfigurationError as error:
    print("REFUSED", error)
expected = dates(beside_the_script.library.custom_parse_time)
print("EQUAL", sorted_rows(expected.apply(distribute(strict=True))) == sorted_rows(expected))
rows = sorted(rows + sorted_rows(running))
print("WHOLE", rows == list(range(1000)))
for host in Cluster.discover().data_hosts:
    servers = [one for one in (*ask_status(host, 10).workers, ask_status(host, 10).dispatcher) if one]
    print("SERVERS", [(one.restarts, "beside_the_script" in one.modules, "only_here" in one.modules) for one in servers])
"""
    )
    job = make_job(GROUPS)
    for host in job.hosts:
        job.launch(host, script, PYTHONPATH=str(tmp_path / "trainer") if host == "algo-2" else "")
    assert set(job.wait(180).values()) == {0}, job.logs()
    lines = dict(line.split(" ", 1) for line in job.log("algo-2").splitlines() if line[:1].isupper())
    assert "Op type not registered 'Custom>ParseTime'" in lines["PLAIN"]
    refusal = (
        "{host} (127.0.0.1:{port}): can't load only_here, whose Absent>ParseTime the dataset needs: there is no module of that "
        "name. Instead: install it on every host, or put it beside the training script"
    )
    assert lines["REFUSED"] == "; ".join(
        refusal.format(host=host, port=job.first_port[host] + 1) for host in ("algo-1", "algo-3")
    )
    assert lines["EQUAL"] == "True"
    assert lines["WHOLE"] == "True"
    servers = [line for line in job.log("algo-2").splitlines() if line.startswith("SERVERS")]
    assert [line.count("(0, True, False)") for line in servers] == [2, 1], servers
    for host in ("algo-1", "algo-3"):
        line = "the servers have loaded beside_the_script, whose Custom>ParseTime a dataset needs"
        assert job.log(host).count(line) == 1, job.log(host)


@pytest.mark.slow
def test_the_script_says_how_many_worker_processes_make_its_batches(make_job, write_script):
    """The second dataset asks for three while the first is read; a third, which asks for two, gets no fewer."""
    script = write_script(
        DATES
        + """
from tensorflow.python.data.experimental.ops import testing

def numbers(workers):
    # a batch takes a worker 10 ms, so that each gets a part
    dataset = tf.data.Dataset.range(2000).batch(10).apply(testing.sleep(10_000))
    return iter(dataset.apply(distribute(wire=Wire(workers_per_host=workers), ready_timeout_s=120)))

first = numbers(None)
rows = sorted_rows(itertools.islice(first, 3))
for workers in (3, 2):
    print("ROWS", sorted_rows(numbers(workers)) == list(range(2000)))
print("ROWS", sorted(rows + sorted_rows(first)) == list(range(2000)))
"""
    )
    job = make_job(GROUPS)
    for host in job.hosts:
        job.launch(host, script, "--workers", "1")
    assert set(job.wait(180).values()) == {0}, job.logs()
    assert job.log("algo-2").count("ROWS True") == 3, job.log("algo-2")
    for host in ("algo-1", "algo-3"):
        workers = job.report(host)["workers"]
        assert [worker["port"] for worker in workers] == [job.first_port[host] + 10 + index for index in range(3)]
        assert all(worker["batches_served"] for worker in workers), "each has made batches"
        assert "3 workers instead of 1: a dataset asks for them" in job.log(host)
        assert "keeps its 3 workers, where a dataset asks for 2" in job.log(host)


def test_local_workers_load_what_the_data_hosts_were_told_before_and_after_they_came(
    make_job, write_script, write_library, tmp_path
):
    write_library(tmp_path / "early.py", "Custom")
    write_library(tmp_path / "late.py", "Absent")
    script = write_script(
        DATES
        + """
import time
from hetero_tfdata.service.status import ask_status
import early, late
here = Cluster.discover().here

def read(parse_time):
    dataset = dates(parse_time)
    assert sorted_rows(dataset.apply(distribute(ready_timeout_s=120))) == sorted_rows(dataset)

read(early.library.custom_parse_time)
open("serve", "w").close()
while not any(worker.ready for worker in ask_status(here, 10).workers):
    time.sleep(0.2)
read(early.library.custom_parse_time)
read(late.library.absent_parse_time)
print("MODULES", [worker.modules[-2:] for worker in ask_status(here, 10).workers])
"""
    )
    launcher = write_script(
        "import os, sys, time\n"
        "from hetero_tfdata.launch import local_workers\n"
        "from hetero_tfdata.launch.entry import launch\n"
        "def fitting(job, stopped):\n"
        "    while not os.path.exists('serve'):\n"
        "        time.sleep(0.1)\n"
        "    return 1\n"
        "local_workers._fitting = fitting\n"
        f"sys.exit(launch({str(script)!r}, local_workers=None))",
        "launcher.py",
    )
    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]})
    for host in job.hosts:
        job.start(host, sys.executable, str(launcher))
    assert job.wait(180) == {"algo-1": 0, "algo-2": 0}, job.logs()
    assert "MODULES [('early', 'late')]" in job.log("algo-2"), job.logs()


def test_ranks_that_own_their_servers_have_them_do_the_same(make_job, write_script, write_library, tmp_path):
    """No launch, no data hosts: rank 0 owns the servers of the ranks' host."""
    write_library(tmp_path / "custom_time.py", "Custom")
    script = write_script(
        DATES
        + """
import custom_time
from hetero_tfdata.service.readiness import DispatcherClient
cluster = Cluster.discover()
dataset = dates(custom_time.library.custom_parse_time)
shared = dataset.apply(distribute(wire=Wire(workers_per_host=2), ready_timeout_s=120))
with DispatcherClient(f"grpc://{cluster.here.address}:{cluster.here.dispatcher_port}") as client:
    print("WORKERS", len(client.workers()), flush=True)
print("DATES", *sorted_rows(shared), flush=True)
"""
    )
    job = make_job({"homogeneousCluster": ["algo-1"]})
    job.start("algo-1", HOROVODRUN, "--gloo", "-np", "2", "-H", "localhost:2", sys.executable, str(script))
    assert job.wait(180) == {"algo-1": 0}, job.logs()
    log = job.log("algo-1")
    assert log.count("WORKERS 2") == 2, log
    dates = sorted(int(word) for line in log.splitlines() if "DATES" in line for word in line.split("DATES")[1].split())
    assert (len(dates), len(set(dates))) == (60, 12), log
