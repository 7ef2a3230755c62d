"""Server processes and who owns them."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from hetero_tfdata.cluster import Cluster, Host, InstanceGroup, Role
from hetero_tfdata.cluster.mpi import Ranks
from hetero_tfdata.errors import ConfigurationError, NotReadyError, PortInUseError, ServerDiedError
from hetero_tfdata.launch.health import HealthServer
from hetero_tfdata.service import supervisor
from hetero_tfdata.service.demand import Demand
from hetero_tfdata.service.last_words import last_words
from hetero_tfdata.service.lifeline import Lifeline, hold
from hetero_tfdata.service.server_process import Server
from hetero_tfdata.service.servers import EXIT_PORT_IN_USE, is_port_free
from hetero_tfdata.service.status import HostStatus, ask_status
from hetero_tfdata.service.supervisor import RestartPolicy, Supervisor
from support import clean_environment, free_blocks, wait_for


@pytest.fixture
def cluster() -> Cluster:
    here = Host("algo-1", "127.0.0.1", free_blocks(1)[0])
    groups = (
        InstanceGroup("data_group", "ml.c5.18xlarge", ("algo-1",), Role.DATA),
        InstanceGroup("dnn_group", "ml.p4d.24xlarge", ("algo-2",), Role.TRAINING),
    )
    return Cluster(groups, (here, Host("algo-2", "127.0.0.1", here.first_port + 100)), "algo-1")


@pytest.mark.parametrize(("role", "workers"), [(Role.DATA, 10), (Role.TRAINING, 8)])
def test_the_servers_of_a_host_follow_its_link_where_the_batches_cross_it(cluster, monkeypatch, role, workers):
    monkeypatch.setattr(supervisor, "usable_cpus", lambda: 128)
    groups = (InstanceGroup("here", "ml.c6i.32xlarge", ("algo-1",), role), cluster.groups[1])
    servers = Supervisor.for_host(dataclasses.replace(cluster, groups=groups, ranks=Ranks(0, 2)), log=print)
    try:
        assert len(servers.report()) == workers
    finally:
        servers.stop()
        servers.close()


def test_servers_start_restart_in_place_and_end(cluster):
    """One pass over a server's life; each start imports TensorFlow."""
    lines: list[str] = []
    with Supervisor.for_host(cluster, log=lines.append) as supervisor:
        supervisor.wait_until_ready(120)
        dispatcher, worker = supervisor.servers
        assert (dispatcher.port, worker.port) == (cluster.here.dispatcher_port, cluster.here.worker_ports[0])
        assert not is_port_free(dispatcher.port)
        before = ask_about(supervisor, cluster.here)
        assert (before.host, before.dispatcher.port) == ("algo-1", dispatcher.port)
        first = worker.process.pid
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: worker.restarts == 1 and worker.ready.is_set(), 120, "the worker's return")
        assert worker.process.pid != first
        (died,), (back,) = before.workers, ask_about(supervisor, cluster.here).workers
        assert (died.name, died.port, died.alive, died.ready, died.restarts) == ("worker 0", worker.port, True, True, 0)
        assert died.cpu_s > 0.5, "it imported TensorFlow"
        assert (back.port, back.alive, back.ready, back.restarts) == (worker.port, True, True, 1)
        assert died.started < back.started <= time.time()
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
    assert not any(server.alive or server.started for server in supervisor.status())


def ask_about(supervisor: Supervisor, host: Host) -> HostStatus:
    """The status as another host gets it."""
    with HealthServer(host) as health:
        health.show(supervisor.status)
        return ask_status(host, 10)


def test_a_server_that_is_given_up_leaves_the_others_tended(monkeypatch):
    """Port 1's process ends at once, port 2's runs until it is killed."""
    real = subprocess.Popen
    programs = {
        "1": "raise ImportError('no ops')",
        "2": "import time; print('hetero_tfdata: server ready', flush=True); time.sleep(60)",
    }
    monkeypatch.setattr(
        supervisor.subprocess, "Popen", lambda command, **options: real([command[0], "-c", programs[command[-1]]], **options)
    )
    broken, sound = (Server("worker", index, index + 1, [], counted=False) for index in range(2))
    failures = []
    policy = RestartPolicy(max_failed_starts=1, backoff_s=0.01)
    with Supervisor([broken, sound], log=print, policy=policy, on_failure=failures.append) as running:
        wait_for(lambda: failures and sound.ready.is_set(), 30, "the end of the broken one")
        sound.process.kill()
        wait_for(lambda: sound.restarts == 1 and sound.ready.is_set(), 30, "the return of the other")
        assert [server.alive for server in running.status()] == [False, True]
    assert len(failures) == 1
    assert "worker 0 on port 1 died 1 times" in str(running.failure)
    assert "ImportError: no ops" in str(running.failure)


def test_a_server_that_is_killed_before_it_serves_has_not_failed(monkeypatch):
    real = subprocess.Popen
    sleeping = "import time; time.sleep(60)"
    monkeypatch.setattr(
        supervisor.subprocess, "Popen", lambda command, **options: real([command[0], "-c", sleeping], **options)
    )
    server = Server("dispatcher", 0, 1, [], counted=False)
    with Supervisor([server], log=print, policy=RestartPolicy(max_restarts=3, max_failed_starts=1, backoff_s=0.01)) as running:
        for count in range(1, 4):
            server.process.kill()
            wait_for(lambda count=count: server.restarts == count and server.process.poll() is None, 30, "its return")
        assert running.failure is None
        server.process.kill()
        wait_for(lambda: running.failure, 30, "the end of the patience")
    assert "died 4 times within 300 s" in str(running.failure)


@pytest.fixture
def folder(tmp_path):
    """Modules that a dataset may need: what importing them does."""
    for name, code in {
        "fine": "print('IMPORTED', __name__)",
        "broken": "raise OSError('libbroken.so: cannot open shared object file\\nand more')",
        "leaves": "raise SystemExit('no licence')",
        "incomplete": "import no_such_module_of_mine",
        "deadly": "import os\nprint('LAST WORDS', flush=True)\nos._exit(7)",
    }.items():
        (tmp_path / f"{name}.py").write_text(code)
    return tmp_path


def test_a_running_server_loads_what_a_dataset_needs_and_survives_what_it_cannot_load(folder, tmp_path):
    """Each start imports TensorFlow: the first, one after each try to load the deadly one, and one after the kill."""
    (port,) = free_blocks(1)
    arguments = ["--work-dir", str(tmp_path / "journal"), "--modules-in", str(folder)]
    server = Server("dispatcher", 0, port, arguments, counted=False)
    lines: list[str] = []

    def refused(module: str, *operations: str) -> str:
        with pytest.raises(ConfigurationError) as raised:
            running.meet(Demand({module: operations}), 120)
        return str(raised.value)

    with Supervisor([server], log=lines.append) as running:
        running.meet(Demand({"fine": ("AddV2", "Conv2D")}), 120)  # also while it starts
        first = server.process
        running.meet(Demand({"fine": ("AddV2",)}), 120)
        assert refused("absent", "A", "B").startswith(
            "can't load absent, whose A, B the dataset needs: there is no module of that"
        )
        assert "there is no module of that name. Instead: install it on every host" in refused("fine.inner")
        assert "importing it raised OSError: libbroken.so: cannot open shared object file. Instead" in refused("broken")
        assert "importing it raised SystemExit: no licence" in refused("leaves")
        assert "raised ModuleNotFoundError: No module named 'no_such_module_of_mine'" in refused("incomplete")
        assert "it was imported, which registered no NoSuchOp. Instead" in refused("fine", "AddV2", "NoSuchOp")
        assert (server.process, server.restarts) == (first, 0)
        with pytest.raises(
            ServerDiedError, match=rf"dispatcher on port {port} died twice when it was to load deadly.*LAST WORDS"
        ):
            running.meet(Demand({"deadly": ()}), 120)
        wait_for(lambda: server.restarts == 2 and server.ready.is_set(), 120, "its return without the deadly one")
        server.process.kill()
        running.meet(Demand({"fine": ()}), 120)
        assert server.status().modules == ("fine",)
        assert running.failure is None
    imports = [line for line in lines if "IMPORTED fine" in line]
    assert len(imports) == 4, "once by demand, and by each successor before it served"
    assert sum("the servers have loaded fine, whose AddV2, Conv2D a dataset needs" in line for line in lines) == 1
    with pytest.raises(NotReadyError, match="did not"):
        running.meet(Demand({"fine": ()}), 120)


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
    server = Server("dispatcher", 0, 1, ["--work-dir", str(tmp_path)], counted=False)
    with Supervisor([server], log=lines.append) as running:
        running.wait_until_ready(30)
    assert any("tensorflow/core/data/service" in line for line in lines)
