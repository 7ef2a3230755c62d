"""Workers beside the training, on the training hosts of a heterogeneous job, as real processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from hetero_tfdata.cluster import Cluster, Host, InstanceGroup, Role
from hetero_tfdata.launch import local_workers
from hetero_tfdata.launch.job import Job
from hetero_tfdata.service.cpus import usable_cpus
from hetero_tfdata.service.status import Phase, ask_status
from support import children_of, wait_for

GROUPS = {"data_group": ["algo-1"], "dnn_group": ["algo-2"]}

# One pass, slow enough that every worker gets a part.
ONE_PASS = """
import sys, time
import tensorflow as tf
from hetero_tfdata import Cluster, distribute
rank = Cluster.discover().ranks.rank
dataset = tf.data.Dataset.range(3000).batch(10).apply(distribute(ready_timeout_s=120))
rows = []
for batch in dataset:
    rows += [int(x) for x in batch]
    if len(rows) == 30:
        print("READING", flush=True)
    if rank and len(rows) == 50:
        break
    time.sleep(0.03)
print("ROWS", len(rows), len(set(rows)), flush=True)
"""
# Endless; ends when this host's own workers have served as well.
UNTIL_SERVED_FROM_HERE = """
import time
import tensorflow as tf
from hetero_tfdata import Cluster, distribute
from hetero_tfdata.service.status import ask_status
here = Cluster.discover().here
dataset = tf.data.Dataset.range(1000).repeat().batch(10).apply(distribute(ready_timeout_s=120))
deadline = time.monotonic() + 90
for number, batch in enumerate(dataset):
    served = number % 20 == 0 and sum(worker.batches_served for worker in ask_status(here, 10).workers)
    if served or time.monotonic() > deadline:
        break
    time.sleep(0.01)
print("SERVED FROM HERE", time.monotonic() < deadline, flush=True)
"""


def workers_below(pid: int) -> list[int]:
    return [child for child, command in children_of(pid).items() if "worker" in command]


def runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def rows_read(job, host: str) -> tuple[int, int]:
    total, distinct = map(int, job.log(host).split("ROWS ")[1].split()[:2])
    return total, distinct


def test_a_local_worker_serves_beside_the_training_and_ends_with_it(make_job, write_script):
    job = make_job(GROUPS)
    job.launch("algo-1", write_script(ONE_PASS))
    job.launch("algo-2", write_script(ONE_PASS), "--local-workers", "1")
    trainer = job.processes["algo-2"]
    (worker,) = wait_for(lambda: workers_below(trainer.pid), 60, "the local worker")
    wait_for(lambda: os.getpriority(os.PRIO_PROCESS, worker) == 19, 30, "the worker to stand back")
    assert os.getpriority(os.PRIO_PROCESS, trainer.pid) == 0
    score = Path(f"/proc/{worker}/oom_score_adj")
    wait_for(lambda: score.read_text().strip() == "1000", 30, "it to be the first that is killed, before the training")
    wait_for(lambda: "READING" in job.log("algo-2"), 90, "reading")
    status = ask_status(Host("algo-2", "127.0.0.1", job.first_port["algo-2"]), 10)
    assert (status.phase, len(status.workers), status.dispatcher) == (Phase.TRAINING, 1, None)
    assert status.workers[0].port == job.first_port["algo-2"] + 10
    pids = [pid for process in job.processes.values() for pid in children_of(process.pid)]
    assert worker in pids
    assert job.wait(150) == {"algo-1": 0, "algo-2": 0}, job.logs()
    wait_for(lambda: not any(map(runs, pids)), 5, "the end of all children")
    assert rows_read(job, "algo-2") == (3000, 3000), "exactly once, also over hosts"
    served = [job.report(host)["batches_served"] for host in job.hosts]
    assert min(served) > 0, served
    assert job.report("algo-2")["role"] == "training"


def test_auto_measures_while_the_training_reads_and_joins_the_running_pass(make_job, write_script):
    """The training runs when the worker comes; the dispatcher gives it a part of what runs. Idle CPUs as on a larger host."""
    script = write_script(UNTIL_SERVED_FROM_HERE)
    launcher = write_script(
        "import sys\n"
        "from hetero_tfdata.launch import local_workers\n"
        "from hetero_tfdata.launch.entry import launch\n"
        "from hetero_tfdata.launch.job import Deadlines\n"
        "local_workers.idle_cpus = lambda window_s, stopped: None if stopped.wait(window_s) else 9.5\n"
        f"sys.exit(launch({str(script)!r}, local_workers=None, deadlines=Deadlines(idle_window_s=2)))",
        "launcher.py",
    )
    job = make_job(GROUPS)
    for host in job.hosts:
        job.start(host, sys.executable, str(launcher))
    assert job.wait(180) == {"algo-1": 0, "algo-2": 0}, job.logs()
    assert f"algo-2: 1 local worker: 9.5 of {usable_cpus()} CPUs idle over 2 s" in job.log("algo-2")
    assert "SERVED FROM HERE True" in job.log("algo-2"), job.logs()


@pytest.mark.faults
def test_a_local_worker_that_dies_comes_back_and_the_pass_ends(make_job, write_script):
    job = make_job(GROUPS)
    job.launch("algo-1", write_script(ONE_PASS))
    job.launch("algo-2", write_script(ONE_PASS), "--local-workers", "1")
    trainer = job.processes["algo-2"]
    wait_for(lambda: "READING" in job.log("algo-2"), 90, "reading")
    here = Host("algo-2", "127.0.0.1", job.first_port["algo-2"])
    wait_for(lambda: ask_status(here, 10).workers[0].batches_served, 60, "its first batch")
    (worker,) = workers_below(trainer.pid)
    os.kill(worker, signal.SIGKILL)
    assert job.wait(150) == {"algo-1": 0, "algo-2": 0}, job.logs()
    assert f"local worker 0 was killed by signal 9; starting it again on port {here.worker_ports[0]}" in job.log("algo-2")
    total, distinct = rows_read(job, "algo-2")
    assert total == distinct, "no row twice"
    assert 2800 <= total <= 3000, "at most what the dead worker held is lost"


@pytest.mark.faults
def test_a_local_worker_that_cannot_start_does_not_fail_the_training(make_job, write_script, tmp_path):
    (tmp_path / "broken_ops.py").write_text("raise OSError('libbroken.so: cannot open shared object file')")
    job = make_job(GROUPS)
    job.launch("algo-1", write_script(ONE_PASS))
    job.launch("algo-2", write_script(ONE_PASS), "--local-workers", "1", "--preload", "broken_ops", PYTHONPATH=str(tmp_path))
    assert job.wait(150) == {"algo-1": 0, "algo-2": 0}, job.logs()
    assert rows_read(job, "algo-2") == (3000, 3000)
    assert "a local worker is given up, the training goes on: worker 0 on port" in job.log("algo-2"), job.logs()
    assert "OSError: libbroken.so" in job.log("algo-2")


@pytest.mark.faults
def test_a_host_whose_rank_has_ended_serves_on_for_the_others(make_job, write_script):
    """Rank 1 ends after 50 rows; its host's worker holds a part of the pass that rank 0 reads to its end."""
    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2", "algo-3"]})
    script = write_script(ONE_PASS)
    job.launch("algo-1", script)
    job.launch("algo-2", script)
    job.launch("algo-3", script, "--local-workers", "1")
    assert job.wait(180) == {"algo-1": 0, "algo-2": 0, "algo-3": 0}, job.logs()
    assert rows_read(job, "algo-3") == (50, 50)
    total, distinct = rows_read(job, "algo-2")
    assert total == distinct
    assert total >= 2500, "all but what rank 1 took and held"
    assert job.report("algo-3")["batches_served"] > 0


@pytest.mark.parametrize(
    ("idle", "workers", "line"),
    [(24.2, 3, "3 local workers: 24.2 of"), (1.5, 1, "1 local worker: 1.5 of"), (0.4, 0, "no local workers: 0.4 of")],
)
def test_only_windows_in_which_batches_flow_are_measured(monkeypatch, capsys, idle, workers, line):
    """Nothing flows in the first windows; in the third the training starts; the fourth counts."""
    served = iter([0, 0, 0, 40, 90])
    windows = iter([9.0, 9.0, 9.0, idle])
    monkeypatch.setattr(local_workers, "_batches_served", lambda job: next(served))
    monkeypatch.setattr(local_workers, "idle_cpus", lambda window_s, stopped: next(windows))
    cluster = Cluster((InstanceGroup("dnn_group", "", ("algo-2",), Role.TRAINING),), (Host("algo-2", "x"),), "algo-2")
    assert local_workers._fitting(Job(cluster, "train.py"), threading.Event()) == workers
    assert line in capsys.readouterr().err


def test_a_training_that_ends_first_gets_none(monkeypatch):
    monkeypatch.setattr(local_workers, "_batches_served", lambda job: 0)
    stopped = threading.Event()
    stopped.set()
    cluster = Cluster((InstanceGroup("dnn_group", "", ("algo-2",), Role.TRAINING),), (Host("algo-2", "x"),), "algo-2")
    assert local_workers._fitting(Job(cluster, "train.py"), stopped) == 0


def test_a_job_without_data_hosts_says_that_it_changes_nothing(make_job, write_script):
    job = make_job({"dnn_group": ["algo-1", "algo-2"]})
    script = write_script("pass")
    job.launch("algo-1", script, "--local-workers", "auto")
    job.launch("algo-2", script)
    assert job.wait(120) == {"algo-1": 0, "algo-2": 0}, job.logs()
    assert "--local-workers: this job has no data hosts, so it changes nothing" in job.log("algo-1")


def test_a_number_that_is_none(make_job, write_script):
    job = make_job(GROUPS)
    job.launch("algo-2", write_script("pass"), "--local-workers", "-1")
    assert job.wait(60) == {"algo-2": 2}
    assert "--local-workers: expected auto, 0 or a number of processes, got '-1'" in job.log("algo-2")
