"""Traps of tf.data service: plain TensorFlow falls in, distribute() does not. Those of the graph are in test_preflight.py."""

from __future__ import annotations

import os
import signal

import pytest
import tensorflow as tf

from hetero_tfdata import distribute
from hetero_tfdata.errors import DatasetError
from support import children_of, wait_for

pytestmark = pytest.mark.peers

TRAINING, VALIDATION = range(100), range(1000, 1060)


def rows(dataset: tf.data.Dataset) -> list[int]:
    return sorted(int(row) for batch in dataset for row in batch)


def batches(numbers: range) -> tf.data.Dataset:
    return tf.data.Dataset.range(numbers.start, numbers.stop).batch(5)


def test_a_job_name_is_global_and_a_second_dataset_under_it_is_empty(stock_service):
    plain = tf.data.experimental.service.distribute("distributed_epoch", stock_service, job_name="training")
    assert rows(batches(TRAINING).apply(plain)) == list(TRAINING)
    assert rows(batches(VALIDATION).apply(plain)) == [], "no error, no row"

    ours = [batches(numbers).apply(distribute(service=stock_service, ready_timeout_s=30)) for numbers in (TRAINING, VALIDATION)]
    assert [rows(dataset) for dataset in ours] == [list(TRAINING), list(VALIDATION)]


def test_a_second_pass_under_a_job_name_is_empty(stock_service):
    """In another process, that is: the iterations of one dataset object are told apart."""
    once, again = (
        tf.data.experimental.service.distribute("distributed_epoch", stock_service, job_name="passes") for _ in range(2)
    )
    assert rows(batches(TRAINING).apply(once)) == list(TRAINING)
    assert rows(batches(TRAINING).apply(again)) == []

    ours = batches(TRAINING).apply(distribute(service=stock_service, ready_timeout_s=30))
    assert rows(ours) == rows(ours) == list(TRAINING)


def test_another_dataset_under_a_known_id_is_ignored(stock_service):
    service = tf.data.experimental.service
    others = range(1000, 1100)  # as many, or TensorFlow would notice by the cardinality
    for numbers in (TRAINING, others):
        service.register_dataset(stock_service, batches(numbers), dataset_id="mine")
    spec = batches(TRAINING).element_spec
    plain = service.from_dataset_id("distributed_epoch", stock_service, "mine", spec)
    assert rows(plain) == list(TRAINING), "the second registration changed nothing and said nothing"

    seen = []
    for numbers in (TRAINING, others):  # the same line twice
        seen.append(rows(batches(numbers).apply(distribute(service=stock_service, ready_timeout_s=30))))
    assert seen == [list(TRAINING), list(others)]


def test_a_consumers_index_without_their_number_is_ignored(stock_service):
    plain = tf.data.experimental.service.distribute("parallel_epochs", stock_service, job_name="seat", consumer_index=1)
    assert rows(batches(TRAINING).apply(plain)) == sorted([*TRAINING, *TRAINING]), "all of it from both workers, no error"

    with pytest.raises(DatasetError, match="coordinated-end: "):
        batches(TRAINING).apply(distribute(service=stock_service, coordinated=True, ready_timeout_s=30))


def test_files_are_listed_where_the_script_runs(tmp_path):
    with pytest.raises(tf.errors.InvalidArgumentError, match="No files matched pattern"):
        tf.data.Dataset.list_files(str(tmp_path / "*.tfrecord"))  # test_files_of_data_hosts.py asks those who have them


def test_a_dispatcher_that_dies_comes_back_and_the_epoch_ends_whole(make_job, write_script):
    script = write_script("""
import time
import tensorflow as tf
from hetero_tfdata import distribute
from hetero_tfdata.errors import DatasetError
dataset = tf.data.Dataset.range(2000).batch(10).apply(distribute(ready_timeout_s=120))
rows = []
for batch in dataset:
    rows += [int(x) for x in batch]
    if len(rows) == 100:
        print("READING", flush=True)
    time.sleep(0.02)
print("ROWS", len(rows), len(set(rows)), flush=True)
""")
    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]})
    job.launch("algo-1", script)
    job.launch("algo-2", script)
    wait_for(lambda: "READING" in job.log("algo-2"), 90, "reading")
    below = children_of(job.processes["algo-1"].pid)
    dispatcher = next(pid for pid, command in below.items() if "dispatcher" in command)
    os.kill(dispatcher, signal.SIGKILL)
    assert job.wait(120) == {"algo-1": 0, "algo-2": 0}, job.logs()
    assert "was killed by signal 9; starting it again on port" in job.log("algo-1")
    assert "ROWS 2000 2000" in job.log("algo-2")


def test_without_its_journal_a_dispatcher_that_comes_back_knows_nobody():
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    port = int(dispatcher.target.rsplit(":", 1)[1])
    worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=f"localhost:{port}", heartbeat_interval_ms=200))
    plain = service.distribute("distributed_epoch", f"grpc://localhost:{port}", max_outstanding_requests=1)
    elements = iter(tf.data.Dataset.range(100_000).batch(1).apply(plain))
    next(elements)
    dispatcher._stop()
    del dispatcher
    again = service.DispatchServer(service.DispatcherConfig(port=port))
    error = None
    try:
        for _ in range(100_000):
            next(elements)
    except (tf.errors.OpError, StopIteration) as raised:
        error = raised
    assert isinstance(error, tf.errors.NotFoundError), error
    del elements, worker, again
