"""Streams that stand still, in whole jobs: what the log says, who ends, and what stands in the failure file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from support import children_of, clean_environment, wait_for

READ = """
import sys, time
import tensorflow as tf
from hetero_tfdata import distribute
rows = 0
for batch in {dataset}.apply(distribute(stall_timeout_s=12, ready_timeout_s=120, {options})):
    rows += len(batch)
    print("ROWS", rows, flush=True)
    time.sleep(0.05)
print("DONE", flush=True)
"""


def test_a_worker_that_does_not_come_back_ends_a_finite_epoch_with_an_error(fragile_service, write_script, tmp_path):
    """Plain tf.data service waits for ever here (test_silence.py)."""
    service = fragile_service
    base, said = tmp_path / "opt" / "ml", tmp_path / "train.log"
    for folder in ("output", "input/config"):
        (base / folder).mkdir(parents=True)
    (base / "input/config/resourceconfig.json").write_text('{"current_host": "algo-1", "hosts": ["algo-1"]}')
    script = write_script(READ.format(dataset="tf.data.Dataset.range(2000).batch(10)", options=f"service={service.address!r}"))
    with said.open("w") as log:
        trainer = subprocess.Popen(
            [sys.executable, str(script)],
            env=clean_environment(SAGEMAKER_BASE_DIR=str(base)),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: "ROWS 100" in said.read_text(), 60, "reading")
        service.kill(1)
        assert trainer.wait(90) == 1, said.read_text()
    finally:
        trainer.kill()
    assert "DONE" not in said.read_text()
    assert "s: unreachable: 1 of 2 workers take no connection: 127.0.0.1:" in said.read_text()
    failure = (base / "output" / "failure").read_text()
    assert "no element for 1" in failure
    assert f"hetero_tfdata.errors.StalledError: {failure}" in said.read_text()


def test_a_source_that_gives_nothing_ends_the_job(make_job, write_script):
    dataset = "tf.data.Dataset.range(9).apply(testing.sleep(3_600_000_000)).batch(1)"
    imports = "from tensorflow.python.data.experimental.ops import testing"
    script = write_script(imports + READ.format(dataset=dataset, options=""))
    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]})
    job.launch("algo-1", script)
    job.launch("algo-2", script)
    assert job.wait(150) == {"algo-1": 1, "algo-2": 1}, job.logs()
    assert "starved source: all 1 workers can be reached and have nothing to do (algo-1: 0.0 of " in job.failure("algo-2")
    assert "algo-2" in job.failure("algo-1"), "the data host says whose failure it was"


def test_slow_workers_are_waited_for(make_job, write_script):
    dataset = """tf.data.Dataset.range(1).map(
        lambda x: tf.while_loop(lambda n: tf.timestamp() < UNTIL, lambda n: (n + 1,), (x,))[0]
    ).batch(1)"""
    script = write_script(READ.format(dataset=dataset, options="").replace("rows = 0", "UNTIL = time.time() + 32\nrows = 0"))
    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]})
    job.launch("algo-1", script)
    job.launch("algo-2", script)
    assert job.wait(150) == {"algo-1": 0, "algo-2": 0}, job.logs()
    assert "ROWS 1\nDONE" in job.log("algo-2")
    assert "waiting for an element for 10 s: slow: all 1 workers can be reached and work (algo-1: " in job.log("algo-2")


AFTERWARDS = """
import sys, time
import tensorflow as tf
from tensorflow.python.data.experimental.ops import testing
from hetero_tfdata import distribute
never = tf.data.Dataset.range(9).apply(testing.sleep(3_600_000_000))
dataset = tf.data.Dataset.range(1).concatenate(never)
elements = iter(dataset.apply(distribute(service=sys.argv[1], stall_timeout_s=3, ready_timeout_s=60)).prefetch(2))
next(elements)
print("READ", flush=True)
sys.stdin.readline()
for number in range(20):
    tf.zeros([3]).numpy()  # it works with TensorFlow, and needs no element
    time.sleep(1)
print("SAVED", flush=True)
next(elements)
"""


def test_a_buffer_that_nobody_waits_for_ends_no_script(fragile_service, write_script):
    """The script has what it wanted, and its service is gone. It is ended only where it asks for one more element."""
    process = subprocess.Popen(
        [sys.executable, str(write_script(AFTERWARDS)), fragile_service.address],
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "READ\n"
        fragile_service.end()
        said, errors = process.communicate("\n", timeout=150)
    finally:
        process.kill()
    assert said == "SAVED\n", errors
    assert process.returncode == 1, "ended by the watchdog"
    assert "StalledError" in errors


COORDINATED = """
import os, sys, time
import tensorflow as tf
from hetero_tfdata import distribute
ranks, folder = int(os.environ["OMPI_COMM_WORLD_SIZE"]), sys.argv[1]
length = lambda batch: tf.cast(tf.shape(batch)[1], tf.int64)
dataset = tf.data.Dataset.range(640).repeat().map(lambda i: tf.fill([i % 4 + 1], i))
dataset = dataset.bucket_by_sequence_length(lambda row: tf.shape(row)[0], [2, 3, 4], [4] * 4, drop_remainder=True)
dataset = dataset.group_by_window(length, lambda _, batches: batches, window_size=ranks)
dataset = dataset.apply(distribute(coordinated=True, service=sys.argv[2], stall_timeout_s=12, ready_timeout_s=60))
lengths = []
for batch in dataset.take(40):
    lengths.append(int(batch.shape[1]))
print("LENGTHS", *lengths, flush=True)
"""


def start_ranks(script, service: str, size: int, ranks: list[int], folder) -> list[subprocess.Popen[str]]:
    """The script in some of the job's ranks, as mpirun starts them."""
    return [
        subprocess.Popen(
            [sys.executable, str(script), str(folder), service],
            env=clean_environment(
                OMPI_COMM_WORLD_RANK=str(rank),
                OMPI_COMM_WORLD_SIZE=str(size),
                OMPI_COMM_WORLD_LOCAL_RANK=str(rank),
                OMPI_COMM_WORLD_LOCAL_SIZE=str(size),
                TRAINING_JOB_NAME=f"coordinated-{os.getpid()}-{len(ranks)}",
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ranks
    ]


def test_coordinated_ranks_read_batches_of_one_length_in_each_step(fragile_service, write_script, tmp_path):
    ranks = start_ranks(write_script(COORDINATED), fragile_service.address, 2, [0, 1], tmp_path)
    said = [rank.communicate(timeout=120)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    first, second = (text.split("LENGTHS ")[1].split() for text in said)
    assert first == second
    assert set(first) == {"1", "2", "3", "4"}


def test_a_coordinated_rank_that_is_missing_ends_the_others_with_an_error(fragile_service, write_script, tmp_path):
    (rank,) = start_ranks(write_script(COORDINATED), fragile_service.address, 2, [0], tmp_path)
    began = time.monotonic()
    said = rank.communicate(timeout=120)[0]
    assert rank.returncode == 1, said
    assert time.monotonic() - began < 90
    assert "Reads are coordinated: one of 2 ranks that does not read holds up all" in said
    assert "StalledError: " in said


def test_a_frozen_worker_ends_the_job_with_its_address(make_job, write_script):
    """Stopped, its kernel still takes connections."""
    dataset = "tf.data.Dataset.range(5000).batch(10)"
    script = write_script(READ.format(dataset=dataset, options=""))
    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]})
    job.launch("algo-1", script, "--workers", "1")
    job.launch("algo-2", script)
    wait_for(lambda: "ROWS 100" in job.log("algo-2"), 90, "reading")
    (worker,) = [pid for pid, command in children_of(job.processes["algo-1"].pid).items() if "worker" in command]
    os.kill(worker, signal.SIGSTOP)
    assert job.wait(120) == {"algo-1": 1, "algo-2": 1}, job.logs()
    assert "StalledError" in job.failure("algo-2") or "no element for" in job.failure("algo-2")
