"""launch on real processes: every way a job may end reaches every host, with the right exit code."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import children_of, clean_environment, wait_for

HOROVODRUN = str(Path(sys.executable).with_name("horovodrun"))

READ = """
import sys, time
import tensorflow as tf
from hetero_tfdata import Cluster, distribute
dataset = tf.data.Dataset.range(10_000_000).repeat().batch(10).apply(distribute(ready_timeout_s=120))
rank = Cluster.discover().ranks.rank
"""
GROUPS = {"data_group": ["algo-1"], "dnn_group": ["algo-2"]}


def servers_below(pid: int) -> list[str]:
    """ "dispatcher" and "worker" among the arguments of the process's descendants."""
    return [word for command in children_of(pid).values() for word in ("dispatcher", "worker") if word in command]


def alive(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] != "Z":
                    found.append(pid)
        except OSError:
            continue
    return found


def test_process_tree_and_success(make_job, write_script):
    """Servers and script are children that ps can tell apart; with training the data host ends, and nothing is left."""
    script = write_script(READ + "next(iter(dataset)); time.sleep(3); print('ARGUMENTS', sys.argv[1:])")
    job = make_job(GROUPS)
    command = [sys.executable, "-m", "hetero_tfdata", "launch", str(script), "--epochs", "3", "--workers", "9"]
    job.start("algo-1", *command)
    job.start("algo-2", *command)
    data, trainer = job.processes["algo-1"], job.processes["algo-2"]
    wait_for(lambda: sorted(servers_below(data.pid)) == ["dispatcher", "worker"], 60, "the servers")
    wait_for(lambda: any(str(script) in line for line in children_of(trainer.pid).values()), 60, "the script")
    pids = [*children_of(data.pid), *children_of(trainer.pid)]
    assert trainer.wait(120) == 0, job.logs()
    ended = time.monotonic()
    assert data.wait(60) == 0, job.logs()
    assert time.monotonic() - ended < 10, "a data host ends within 10 s of a training that succeeded"
    assert "ARGUMENTS ['--epochs', '3', '--workers', '9']" in job.log("algo-2"), "what follows the script is the script's"
    wait_for(lambda: not alive(pids), 5, "the end of all children")
    assert job.failure("algo-1") == job.failure("algo-2") == ""


@pytest.mark.slow
def test_raising_script_ends_every_host_with_the_reason(make_job, write_script):
    script = write_script(READ + "next(iter(dataset)); raise ValueError('no such layer: conv9')")
    job = make_job(GROUPS)
    for host in job.hosts:
        job.launch(host, script)
    assert job.wait(120) == {"algo-1": 1, "algo-2": 1}, job.logs()
    for host in job.hosts:
        assert job.failure(host).startswith("rank 0 on algo-2 failed:"), job.logs()
        assert job.failure(host).endswith("train.py exited with code 1: ValueError: no such layer: conv9")


@pytest.mark.slow
def test_exit_code_of_the_script_is_kept(make_job, write_script):
    script = write_script("import sys; sys.exit(7)")
    job = make_job(GROUPS)
    for host in job.hosts:
        job.launch(host, script)
    assert job.wait(120) == {"algo-1": 1, "algo-2": 7}, job.logs()
    assert "exited with code 7" in job.failure("algo-1")


def test_failure_file_of_the_script_is_not_overwritten(make_job, write_script):
    script = write_script("""
import os, sys
open(os.path.join(os.environ["SAGEMAKER_BASE_DIR"], "output", "failure"), "w").write("my own words")
sys.exit(3)
""")
    job = make_job({"dnn_group": ["algo-1"]})
    job.launch("algo-1", script)
    assert job.wait(60) == {"algo-1": 3}
    assert job.failure("algo-1") == "my own words"


@pytest.mark.faults
def test_killed_rank_ends_every_host_and_is_named(make_job, write_script):
    """Rank 1 is killed as by the out-of-memory killer: its launcher tells the leader before horovodrun ends the rest."""
    script = write_script(
        READ
        + """
import os
iterator = iter(dataset)
next(iterator)
if rank == 1:
    os.kill(os.getpid(), 9)
for _ in iterator:
    time.sleep(0.05)
"""
    )
    job = make_job(GROUPS, distribution=["dnn_group"])
    launch = [sys.executable, "-m", "hetero_tfdata", "launch", str(script)]
    job.start("algo-1", *launch)
    job.start("algo-2", HOROVODRUN, "--gloo", "-np", "2", "-H", "localhost:2", *launch)
    codes = job.wait(150)
    assert codes["algo-1"] == 1, job.logs()
    assert codes["algo-2"] != 0, job.logs()
    assert "rank 1 on algo-2 failed:" in job.failure("algo-1"), job.logs()
    assert "killed by signal 9 (SIGKILL)" in job.failure("algo-1"), job.logs()


@pytest.mark.faults
def test_killed_leader_launcher_ends_script(make_job, write_script):
    """By the kernel; the data host notices the silence (faults/test_fault_matrix.py)."""
    script = write_script(READ + "for _ in dataset: time.sleep(0.05)")
    job = make_job(GROUPS)
    for host in job.hosts:
        job.launch(host, script)
    leader = job.processes["algo-2"]
    wait_for(lambda: "worker" in servers_below(job.processes["algo-1"].pid), 60, "the worker")
    children = wait_for(lambda: list(children_of(leader.pid)), 60, "the script")
    wait_for(lambda: "serving with" in job.log("algo-1"), 60, "serving")
    time.sleep(2)
    os.kill(leader.pid, signal.SIGKILL)
    assert wait_for(lambda: not alive(children), 5, "the end of the script")


def test_sigterm_reaches_script_and_data_host(make_job, write_script):
    script = write_script(
        READ
        + """
import signal
signal.signal(signal.SIGTERM, lambda *_: (print("CHECKPOINT", flush=True), sys.exit(0)))
print("TRAINING", flush=True)
for _ in dataset: time.sleep(0.05)
"""
    )
    job = make_job(GROUPS)
    for host in job.hosts:
        job.launch(host, script)
    wait_for(lambda: "TRAINING" in job.log("algo-2"), 90, "training")
    job.processes["algo-2"].send_signal(signal.SIGTERM)
    codes = job.wait(60)
    assert codes == {"algo-1": 1, "algo-2": 1}, job.logs()
    assert "CHECKPOINT" in job.log("algo-2")
    assert job.failure("algo-1") == "training on algo-2 was stopped (SIGTERM)"


@pytest.mark.faults
def test_worker_that_dies_comes_back_on_its_port_and_ends_the_epoch(make_job, write_script):
    """Trap 1 of tf.data service: a dead worker hangs a finite epoch, unless it returns at the same address."""
    script = write_script("""
import time
import tensorflow as tf
from hetero_tfdata import distribute
dataset = tf.data.Dataset.range(3000).batch(10).apply(distribute(ready_timeout_s=120))
rows = []
for batch in dataset:
    rows += [int(x) for x in batch]
    if len(rows) == 100:
        print("READING", flush=True)
    time.sleep(0.02)
print("ROWS", len(rows), len(set(rows)), flush=True)
""")
    job = make_job(GROUPS)
    job.launch("algo-1", script, "--workers", "2")
    job.launch("algo-2", script)
    wait_for(lambda: "READING" in job.log("algo-2"), 90, "reading")
    below = children_of(job.processes["algo-1"].pid)
    worker = next(pid for pid, command in below.items() if "worker" in command)
    port = below[worker][below[worker].index("--port") + 1]
    os.kill(worker, signal.SIGKILL)
    assert job.wait(120) == {"algo-1": 0, "algo-2": 0}, job.logs()
    assert f"was killed by signal 9; starting it again on port {port}" in job.log("algo-1")
    total, distinct = map(int, job.log("algo-2").split("ROWS ")[1].split()[:2])
    assert total == distinct, "no row twice"
    assert 2900 <= total <= 3000, "at most what the dead worker held is lost"
    assert sum(worker["restarts"] for worker in job.report("algo-1")["workers"]) == 1


def test_crash_loop_ends_the_job_with_the_servers_last_words(make_job, write_script, tmp_path):
    (tmp_path / "broken_ops.py").write_text("raise OSError('libbroken.so: cannot open shared object file')")
    script = write_script(READ + "next(iter(dataset))")
    job = make_job(GROUPS)
    job.launch("algo-1", script, "--preload", "broken_ops", PYTHONPATH=str(tmp_path))
    job.launch("algo-2", script)
    assert job.wait(150) == {"algo-1": 1, "algo-2": 1}, job.logs()
    for host in job.hosts:
        assert " on port" in job.failure(host), job.logs()
        assert "is not started again" in job.failure(host)
        assert "OSError: libbroken.so: cannot open shared object file" in job.failure(host)


def test_ignored_group_ends_at_once(make_job, write_script):
    script = write_script("print('RUN')")
    job = make_job({"dnn_group": ["algo-1"], "other": ["algo-2"]})
    job.launch("algo-2", script, "--role", "other=ignored", "--role", "dnn_group=training")
    assert job.wait(30) == {"algo-2": 0}
    assert "'other' takes no part in this job" in job.log("algo-2")


def test_launch_outside_sagemaker_runs_the_script(write_script, tmp_path):
    script = write_script("import sys; print('HELLO', sys.argv[1:])")
    done = subprocess.run(
        [sys.executable, "-m", "hetero_tfdata", "launch", str(script), "--x", "1"],
        env=clean_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "HELLO ['--x', '1']\n")


def test_callable_from_a_recipes_launcher(write_script, tmp_path):
    write_script("import sys; sys.exit(5)", "train.py")
    launcher = write_script(
        "import sys\nfrom hetero_tfdata.cli import main\nsys.exit(main(['launch', 'train.py', *sys.argv[1:]]))", "launcher.py"
    )
    done = subprocess.run([sys.executable, str(launcher)], env=clean_environment(), cwd=tmp_path, timeout=60)
    assert done.returncode == 5


# --- bad input: one line, exit 2, nothing half-done ---


def assert_fails_in_one_line(job, host: str, phrase: str) -> None:
    assert job.wait(60) == {host: 2}, job.logs()
    lines = job.log(host).strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("hetero-tfdata: ")
    assert phrase in lines[0]
    assert phrase in job.failure(host)


def test_missing_script(make_job, tmp_path):
    job = make_job(GROUPS)
    job.launch("algo-1", tmp_path / "trian.py")
    assert_fails_in_one_line(job, "algo-1", "expected a training script, there is no file")


def test_roles_that_cannot_be_told(make_job, write_script):
    job = make_job({"cpus": ["algo-1"], "gpus": ["algo-2"]})
    job.launch("algo-1", write_script("pass"))
    assert_fails_in_one_line(job, "algo-1", "can't tell which instance group trains (groups: cpus, gpus")


def test_malformed_role(make_job, write_script):
    job = make_job(GROUPS)
    job.launch("algo-1", write_script("pass"), "--role", "data_group")
    assert job.wait(60) == {"algo-1": 2}
    assert "--role: expected GROUP=ROLE" in job.log("algo-1")


def test_preload_of_a_module_that_is_not_there(make_job, write_script):
    job = make_job(GROUPS)
    job.launch("algo-1", write_script("pass"), "--preload", "my_ops")
    assert job.wait(60) == {"algo-1": 2}
    assert "--preload my_ops: expected an installed module" in job.failure("algo-1")


@pytest.mark.parametrize("offset", [0, 1], ids=["dispatcher", "health"])
def test_fixed_port_in_use(make_job, write_script, offset):
    job = make_job(GROUPS)
    with socket.socket() as other:
        other.bind(("0.0.0.0", job.first_port["algo-1"] + offset))
        other.listen()
        job.launch("algo-1", write_script("pass"))
        assert job.wait(60) == {"algo-1": 2}, job.logs()
    assert f"port {job.first_port['algo-1'] + offset} on algo-1 is in use by process " in job.failure("algo-1")


@pytest.mark.slow
def test_busy_worker_port_is_passed_over(make_job, write_script):
    script = write_script(READ + "next(iter(dataset))")
    job = make_job(GROUPS)
    with socket.socket() as other:
        other.bind(("0.0.0.0", job.first_port["algo-1"] + 10))
        other.listen()
        for host in job.hosts:
            job.launch(host, script)
        assert job.wait(120) == {"algo-1": 0, "algo-2": 0}, job.logs()
    assert [worker["port"] for worker in job.report("algo-1")["workers"]] == [job.first_port["algo-1"] + 11]
