"""Every row exactly once, counted over a million of them; and at most once where a worker is killed, with the loss told."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from hetero_tfdata import Wire, distribute
from support import children_of, wait_for

pytestmark = pytest.mark.peers

HOROVODRUN = str(Path(sys.executable).with_name("horovodrun"))
ROWS, WORKERS, CONSUMERS = 1_000_000, 4, 4


@pytest.fixture(scope="module")
def service():
    """A dispatcher and four workers in this process."""
    servers = tf.data.experimental.service
    dispatcher = servers.DispatchServer(servers.DispatcherConfig(port=0, protocol="grpc"))
    address = dispatcher.target.partition("://")[2]
    workers = [
        servers.WorkerServer(servers.WorkerConfig(dispatcher_address=address, heartbeat_interval_ms=200))
        for _ in range(WORKERS)
    ]
    yield f"grpc://{address}"
    del workers, dispatcher


@pytest.mark.parametrize("wire", [Wire(), Wire(keep_batches=True), Wire(chunk_bytes=800)], ids=["whole", "kept", "chunks"])
def test_a_million_rows_over_four_workers_and_four_consumers(service, wire):
    """By pieces of 10,000 rows, which the workers divide among them; batches of 1,000, also cut into chunks of 100."""
    pieces = tf.data.Dataset.range(0, ROWS, 10_000)
    dataset = pieces.flat_map(lambda first: tf.data.Dataset.range(first, first + 10_000)).batch(1000)
    name = f"million-{wire.chunk_bytes}-{wire.keep_batches}"
    # one call for each consumer: two iterators of one dataset would be two passes
    consumers = [
        dataset.apply(distribute(service=service, job_name=name, wire=wire, ready_timeout_s=60)) for _ in range(CONSUMERS)
    ]
    got: list[list[np.ndarray]] = [[] for _ in consumers]

    def read(number: int) -> None:
        got[number] += [batch.numpy() for batch in consumers[number]]

    threads = [threading.Thread(target=read, args=(number,)) for number in range(CONSUMERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(200)
        assert not thread.is_alive()
    rows = np.concatenate([batch for batches in got for batch in batches])
    np.testing.assert_array_equal(np.sort(rows), np.arange(ROWS))
    assert sum(bool(batches) for batches in got) > 1, "more than one consumer got some"
    if wire.keep_batches:
        assert {len(batch) for batches in got for batch in batches} == {1000}


LOSING = """
import os, sys, time
import numpy as np
import tensorflow as tf
from hetero_tfdata import Cluster, distribute

rank = Cluster.discover().ranks.rank
pieces = tf.data.Dataset.from_tensor_slices(np.arange(1_000_000).reshape(200, 5_000))  # which the workers divide among them
dataset = pieces.unbatch().batch(1000).apply(distribute(ready_timeout_s=120))
rows = []
for batch in dataset:
    rows.append(batch.numpy())
    if len(rows) == 30:
        print("READING", flush=True)
    time.sleep(0.05)
np.save(os.path.join(sys.argv[1], f"rank-{rank}.npy"), np.concatenate(rows or [[]]))
"""


def test_a_million_rows_and_a_worker_that_is_killed_in_their_midst(make_job, write_script, tmp_path):
    """Four workers, four ranks. None comes twice, and the leader's log and report count what did not come."""
    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]}, distribution=["dnn_group"])
    launch = [sys.executable, "-m", "hetero_tfdata", "launch", "--workers", "4", str(write_script(LOSING)), str(tmp_path)]
    job.start("algo-1", *launch)
    job.start("algo-2", HOROVODRUN, "--gloo", "-np", "4", "-H", "localhost:4", *launch)
    wait_for(lambda: job.log("algo-2").count("READING") == 4, 180, "all ranks to read")
    servers = children_of(job.processes["algo-1"].pid)
    killed = next(pid for pid, command in servers.items() if str(job.first_port["algo-1"] + 12) in command)
    os.kill(killed, signal.SIGKILL)
    assert set(job.wait(300).values()) == {0}, job.logs()

    rows = np.sort(np.concatenate([np.load(tmp_path / f"rank-{rank}.npy") for rank in range(4)]).astype(int))
    assert len(np.unique(rows)) == len(rows), "no row twice"
    lost = ROWS - len(rows)
    print(f"{lost:,} of {ROWS:,} rows were lost with the worker")
    assert 0 < lost <= ROWS // 10, "at most what it had in work"
    log = job.log("algo-2")
    assert "worker 2 of algo-1 was started again: the rows that it had in work do not come in this pass" in log
    assert f"pass 1: {lost:,} of 1,000,000 rows did not come: worker 2 of algo-1 was started again" in log
    report = json.loads((job.base("algo-2") / "output" / "data" / "hetero_tfdata" / "losses.json").read_text())
    assert [(one["pass"], one["rows"], one["of"]) for one in report["lost"]] == [(1, lost, ROWS)]
    assert report["restarted"] == {"worker 2 of algo-1": 1}
