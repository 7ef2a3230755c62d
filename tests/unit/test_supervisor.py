"""Server processes and who owns them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from hetero_tfdata.cluster import Cluster, Host, InstanceGroup, Role
from hetero_tfdata.errors import PortInUseError
from hetero_tfdata.service.last_words import last_words
from hetero_tfdata.service.lifeline import Lifeline, hold
from hetero_tfdata.service.servers import EXIT_PORT_IN_USE, is_port_free
from hetero_tfdata.service.supervisor import Supervisor, usable_cpus, worker_count
from support import clean_environment, free_blocks, wait_for


@pytest.fixture
def cluster() -> Cluster:
    here = Host("algo-1", "127.0.0.1", free_blocks(1)[0])
    groups = (
        InstanceGroup("data_group", "ml.c5.18xlarge", ("algo-1",), Role.DATA),
        InstanceGroup("dnn_group", "ml.p4d.24xlarge", ("algo-2",), Role.TRAINING),
    )
    return Cluster(groups, (here, Host("algo-2", "127.0.0.1", here.first_port + 100)), "algo-1")


@pytest.mark.parametrize(("cpus", "workers"), [(1, 1), (2, 1), (16, 2), (72, 8), (192, 8)])
def test_worker_count(cpus, workers):
    assert worker_count(cpus) == workers


def test_usable_cpus_follow_the_affinity():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_servers_start_restart_in_place_and_end(cluster):
    """One pass over a server's life; each start imports TensorFlow."""
    lines: list[str] = []
    with Supervisor.for_host(cluster, log=lines.append) as supervisor:
        supervisor.wait_until_ready(120)
        dispatcher, worker = supervisor.servers
        assert (dispatcher.port, worker.port) == (cluster.here.dispatcher_port, cluster.here.worker_ports[0])
        assert not is_port_free(dispatcher.port)
        first = worker.process.pid
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: worker.restarts == 1 and worker.ready.is_set(), 120, "the worker's return")
        assert worker.process.pid != first
        assert not is_port_free(worker.port)
        pids = [server.process.pid for server in supervisor.servers]
        work_dir = supervisor._work_dir
        assert os.path.isdir(work_dir)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not os.path.exists(work_dir), "the journal goes with the dispatcher"
    assert is_port_free(dispatcher.port)
    assert any("was killed by signal 9; starting it again" in line for line in lines)
    assert supervisor.failure is None


def test_a_server_ends_with_its_parent():
    """The parent is killed; its end of the server's standard input closes with it."""
    (port,) = free_blocks(1)
    code = f"""
import subprocess, sys, time
server = subprocess.Popen([sys.executable, "-m", "hetero_tfdata.service.servers", "dispatcher", "--port", "{port}",
                           "--work-dir", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(server.stdout.readline(), server.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code, os.devnull.replace("null", "shm")],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    parent.stdout.readline()
    server = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    wait_for(lambda: not os.path.exists(f"/proc/{server}") or is_zombie(server), 10, "the server's end")
    wait_for(lambda: is_port_free(port), 5, "its port")


def is_zombie(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


def test_server_on_a_taken_port_says_so_before_it_imports_tensorflow():
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "hetero_tfdata.service.servers",
                "worker",
                "--dispatcher",
                "a:1",
                "--advertise",
                "a:2",
                "--port",
                port,
            ],
            env=clean_environment(),
            stdin=subprocess.PIPE,
            capture_output=True,
            text=True,
            timeout=60,
        )
    # standard input is at its end at once, so either reason may come first; neither serves
    assert done.returncode in (EXIT_PORT_IN_USE, 1)


def test_no_free_worker_port_names_the_range(cluster):
    taken = []
    try:
        for port in cluster.here.worker_ports:
            probe = socket.socket()
            taken.append(probe)
            probe.bind(("0.0.0.0", port))
            probe.listen(1)
        ports = cluster.here.worker_ports
        with pytest.raises(PortInUseError, match=f"between {ports[0]} and {ports[-1]}, found 0"):
            Supervisor.for_host(cluster, log=print)
    finally:
        for probe in taken:
            probe.close()


def test_lifeline_ends_with_the_last_holder(cluster):
    lifeline = Lifeline(cluster.here, holders=2)
    code = "import sys; from hetero_tfdata.service.lifeline import hold; from hetero_tfdata.cluster import Host;"
    code += f"hold([Host('algo-1', '127.0.0.1', {cluster.here.first_port})], 10); sys.stdin.read()"
    holders = [subprocess.Popen([sys.executable, "-c", code], env=clean_environment(), stdin=subprocess.PIPE) for _ in range(2)]
    ended = threading.Event()
    threading.Thread(target=lambda: lifeline.wait(60) and ended.set()).start()
    holders[0].stdin.close()
    holders[0].wait()
    assert not ended.wait(1)
    holders[1].kill()
    holders[1].wait()
    assert ended.wait(10)


def test_hold_names_an_owner_that_is_not_there(cluster):
    from hetero_tfdata.errors import NotReadyError

    with pytest.raises(NotReadyError, match=r"the rank that serves from algo-1 \(127.0.0.1:"):
        hold([cluster.here], 0.5)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", None),
        ("one\ntwo\n\n", "two"),
        ("Traceback (most recent call last):\n  File x\n    raise\nValueError: no\n", "ValueError: no"),
        (
            "Traceback (most recent call last):\n  a\nKeyError: 1\n\nDuring handling of the above exception, another exception "
            "occurred:\n\nTraceback (most recent call last):\n  b\nOSError: 2\n[mpirun] aborted\n",
            "OSError: 2",
        ),
        ("Traceback (most recent call last):\n  File cut", "File cut"),
    ],
)
def test_last_words(output, expected):
    assert last_words(output) == expected


def test_readiness_is_seen_in_the_midst_of_log_lines(monkeypatch, tmp_path):
    """TensorFlow's threads write to the same pipe piece by piece; a server that is ready was once taken for one that is not."""
    from hetero_tfdata.service import supervisor

    fake = tmp_path / "fake.py"
    fake.write_text(
        "import os, sys, time\n"
        "from hetero_tfdata.service import servers\n"
        "servers.is_port_free = lambda port: True\n"
        "def dispatcher(arguments):\n"
        "    os.write(2, b'2026-11-23 12:00:00: W tensorflow/core/data/service')  # the rest of the line comes later\n"
        "servers._dispatcher = dispatcher\n"
        "sys.exit(servers.main(sys.argv[3:]))\n"
    )
    real = subprocess.Popen
    monkeypatch.setattr(
        supervisor.subprocess, "Popen", lambda command, **options: real([command[0], str(fake), *command[1:]], **options)
    )
    lines: list[str] = []
    server = supervisor.Server("dispatcher", 0, 1, ["--work-dir", str(tmp_path)], counted=False)
    with Supervisor([server], log=lines.append) as running:
        running.wait_until_ready(30)
    assert any("tensorflow/core/data/service" in line for line in lines)
