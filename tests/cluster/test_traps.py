"""Traps of tf.data service: plain TensorFlow falls in, and distribute() does not or says so. Every trap, and its tests:

 1. A dead worker hangs every finite epoch.
    faults/test_silence.py: test_a_worker_that_dies_in_mid_epoch_and_stays_away
 2. A job name is global: a second dataset or a finished pass under it is empty.
    cluster/test_traps.py: test_a_job_name_is_global_and_a_second_dataset_under_it_is_empty
    cluster/test_traps.py: test_a_second_pass_under_a_job_name_is_empty
 3. Another dataset under a known id is ignored.
    cluster/test_traps.py: test_another_dataset_under_a_known_id_is_ignored
 4. One request is in flight for each client and worker.
    cluster/test_traps_of_servers.py: test_one_request_is_in_flight_for_each_worker
 5. Everything waits in silence.
    faults/test_silence.py: test_before_the_first_element
 6. A graph of more than 2 GB aborts the process.
    cluster/test_traps_of_servers.py: test_a_graph_of_more_than_two_gigabytes_aborts_the_process
 7. take, skip, shard, random and others mean something else on several workers.
    cluster/test_preflight_servers.py: test_plain_service_gives_something_else_and_preflight_says_so
    cluster/test_preflight_servers.py: test_zip_pairs_what_does_not_belong_together
 8. With sharding off a seed makes every worker and epoch the same.
    cluster/test_preflight_servers.py: test_with_sharding_off_a_seed_makes_copies
    cluster/test_preflight_servers.py: test_a_copied_generator_draws_the_same_on_every_worker
 9. Python functions, generators and what lives in this process fail at the first element; so do operations that workers lack.
    cluster/test_preflight_servers.py: test_plain_service_fails_at_the_first_element_and_preflight_refuses
    cluster/test_preflight_servers.py: test_custom_operations_that_workers_lack
10. repeat() outside begins a new job with each pass; ranks get uneven counts.
    cluster/test_preflight_servers.py: test_a_cache_begins_anew_with_each_pass
    cluster/test_traps.py: test_ranks_without_a_service_get_everything_and_with_one_uneven_parts
11. Servers say that they are at localhost.
    cluster/test_traps_of_servers.py: test_by_default_servers_are_at_localhost
12. A dispatcher that is started again knows nobody.
    cluster/test_traps.py: test_without_its_journal_a_dispatcher_that_comes_back_knows_nobody
    cluster/test_traps.py: test_a_dispatcher_that_dies_comes_back_and_the_epoch_ends_whole
13. A consumer's index without their number is ignored; one who is missing holds up the others.
    cluster/test_traps.py: test_a_consumers_index_without_their_number_is_ignored
    faults/test_stalled_jobs.py: test_a_coordinated_rank_that_is_missing_ends_the_others_with_an_error
14. Servers inside the training process stop in one order only.
    cluster/test_traps_of_servers.py: test_servers_in_the_training_process_stop_in_one_order_only
    cluster/test_traps_of_servers.py: test_servers_of_ours_end_whichever_dies_first
15. Batches are compressed.
    cluster/test_traps_of_servers.py: test_by_default_images_are_compressed
16. Files are listed on the trainer.
    cluster/test_traps.py: test_files_are_listed_where_the_script_runs
    cluster/test_files_of_data_hosts.py: test_two_data_hosts_give_each_record_once
17. enumerate counts on each worker.
    cluster/test_preflight_servers.py: test_plain_service_gives_something_else_and_preflight_says_so
18. Ranks without a service each get the whole dataset.
    cluster/test_traps.py: test_ranks_without_a_service_get_everything_and_with_one_uneven_parts
19. Each worker process holds shuffle buffers and caches of its own.
    cluster/test_traps.py: test_each_worker_process_has_its_own_cache
20. The dispatcher's number of workers never falls.
    cluster/test_traps_of_servers.py: test_the_number_of_workers_never_falls
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from hetero_tfdata import distribute
from hetero_tfdata.errors import DatasetError
from hetero_tfdata.service import preflight
from support import children_of, clean_environment, wait_for

pytestmark = pytest.mark.peers

HOROVODRUN = str(Path(sys.executable).with_name("horovodrun"))

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


# Two ranks of one job, as horovodrun starts them. Rank 0 is held up after its first batch until rank 1 has read all there is.
TWO_RANKS = """
import os, sys, time
import tensorflow as tf
from hetero_tfdata import Cluster, distribute
from hetero_tfdata.train.horovod import init
from hetero_tfdata.train.ranks import together

folder, stock = sys.argv[1:]
init()
rank = Cluster.discover().ranks.rank
dataset = tf.data.Dataset.range(600).batch(6)

def rows(dataset, name):
    seen = []
    for batch in dataset:
        seen += batch.numpy().tolist()
        while rank == 0 and not os.path.exists(os.path.join(folder, name)):
            time.sleep(0.05)
    open(os.path.join(folder, name), "w").close()
    return len(seen)

def in_step(dataset):
    steps = 0
    for _ in dataset:
        steps += 1
        time.sleep(0.02 * (1 - rank))
    return steps

plain = tf.data.experimental.service.distribute("distributed_epoch", stock, job_name="ranks")
print(f"rank={rank} no service: {rows(dataset, 'none')}", flush=True)
print(f"rank={rank} plain service: {rows(dataset.apply(plain), 'plain')}", flush=True)
ours = dataset.apply(distribute(ready_timeout_s=120))
print(f"rank={rank} ours: {rows(ours, 'ours')}", flush=True)
print(f"rank={rank} together: {in_step(ours.apply(together()))}", flush=True)
"""


def test_ranks_without_a_service_get_everything_and_with_one_uneven_parts(stock_service, write_script, tmp_path):
    command = [HOROVODRUN, "--gloo", "-np", "2", "-H", "localhost:2", sys.executable, str(write_script(TWO_RANKS))]
    done = subprocess.run(
        [*command, str(tmp_path), stock_service], env=clean_environment(), capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = {(what, int(rank)): int(n) for rank, what, n in re.findall(r"rank=(\d) ([\w ]+): (\d+)", done.stdout)}
    counts = {what: (said[what, 0], said[what, 1]) for what, _ in said}
    assert counts["no service"] == (600, 600), "every rank the whole dataset"
    assert sum(counts["plain service"]) == sum(counts["ours"]) == 600
    assert counts["plain service"][0] < counts["plain service"][1], "an allreduce in each step would hang"
    assert counts["together"][0] == counts["together"][1] > 0


def test_each_worker_process_has_its_own_cache(stock_service, tmp_path, caplog):
    """What is computed to fill it is counted in a file: on each of the two workers all of it."""
    counter = tmp_path / "filled"

    def counted(x: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([tf.print("x", output_stream=f"file://{counter}", end="")]):
            return tf.identity(x)

    cached = tf.data.Dataset.range(50).map(counted).cache()
    plain = tf.data.experimental.service.distribute("parallel_epochs", stock_service)
    assert sorted(int(x) for x in cached.apply(plain)) == sorted([*range(50), *range(50)])
    assert counter.read_text() == 100 * "x", "twice the memory, and nothing says so"

    # 144 GiB, and 8 workers each with 10,000 images of 2.4 MB
    images = tf.data.Dataset.range(10**6).map(lambda _: tf.zeros([900, 900, 3], tf.uint8)).shuffle(10_000)
    job = preflight.Job("dynamic", workers=8, workers_per_host=8, memory_bytes=144 * 2**30, host="an ml.c5.18xlarge")
    (finding,) = preflight.inspect(images, job)
    assert str(finding).startswith("memory: shuffle(10000) 24.3 GB: each worker process has its own: 194 GB for 8 on a host")


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
