"""files() of a channel that only the data hosts have.

All processes here share one disk. What a host has and another lacks lies below /proc/self/cwd, each process's own working
directory: the same path everywhere, with other files behind it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hetero_tfdata import distribute, files
from support import clean_environment, free_blocks

tf = pytest.importorskip("tensorflow")
HOROVODRUN = str(Path(sys.executable).with_name("horovodrun"))
CHANNEL = "/proc/self/cwd/train"
FILES, RECORDS = 7, 30


def write_records(folder: Path, count: int, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file in range(first, first + count):
        with tf.io.TFRecordWriter(str(folder / f"part-{file}.tfrecord")) as writer:
            for number in range(RECORDS):
                writer.write(f"part-{file}.tfrecord:{number}".encode())
    return folder


def host_folder(job, host: str) -> Path:
    """The working directory of a host's processes."""
    folder = job.root / host / "work"
    folder.mkdir(exist_ok=True)
    return folder


def start(job, host: str, *command: str, **extra: str) -> None:
    job.start(host, "env", f"--chdir={host_folder(job, host)}", *command, **extra)


def launch(job, host: str, script: Path, *arguments: str, workers: int = 1, **extra: str) -> None:
    command = [sys.executable, "-m", "hetero_tfdata", "launch", "--workers", str(workers), str(script), *arguments]
    start(job, host, *command, **extra)


# Each rank writes what it saw.
SEE = f"""
import json, os, sys
import tensorflow as tf
from tensorflow.python.data.experimental.ops import testing
from hetero_tfdata import Cluster, distribute, files

assert not os.path.exists("{CHANNEL}"), "this host has no channel"
rank = Cluster.discover().ranks.rank
dataset = files("train", "*.tfrecord", passes=2, seed=5, ready_timeout_s=120)
dataset = dataset.batch(4).apply(testing.sleep(50_000)).apply(distribute(ready_timeout_s=120))  # time for both hosts
seen = []
for records, keys, epochs in dataset:
    seen += zip([r.decode() for r in records.numpy()], [k.decode() for k in keys.numpy()], epochs.numpy().tolist())
with open(os.path.join(sys.argv[1], f"rank-{{rank}}.json"), "w") as file:
    json.dump(seen, file)
"""


def read_seen(folder: Path, ranks: int) -> list[tuple[str, str, int]]:
    return [tuple(row) for rank in range(ranks) for row in json.loads((folder / f"rank-{rank}.json").read_text())]


def test_two_data_hosts_give_each_record_once(make_job, write_script, tmp_path):
    """To two ranks, of which one compares the hosts and the other believes a worker."""
    pytest.importorskip("horovod.tensorflow")
    script = write_script(SEE)
    job = make_job({"data_group": ["algo-1", "algo-3"], "dnn_group": ["algo-2"]}, distribution=["dnn_group"])
    for host in ("algo-1", "algo-3"):
        write_records(host_folder(job, host) / "train", FILES)
        launch(job, host, script, SM_CHANNEL_TRAIN=CHANNEL)
    command = [sys.executable, "-m", "hetero_tfdata", "launch", str(script), str(tmp_path)]
    start(job, "algo-2", HOROVODRUN, "--gloo", "-np", "2", "-H", "localhost:2", *command, SM_CHANNEL_TRAIN=CHANNEL)
    assert set(job.wait(180).values()) == {0}, job.logs()
    seen = read_seen(tmp_path, 2)
    expected = [
        (f"part-{file}.tfrecord:{number}", epoch) for file in range(FILES) for number in range(RECORDS) for epoch in (0, 1)
    ]
    assert sorted((key, epoch) for _, key, epoch in seen) == sorted(expected)
    assert all(record == key for record, key, _ in seen), "a key stays with its record"
    assert all(job.report(host)["batches_served"] > 0 for host in ("algo-1", "algo-3")), "both hosts read files"


@pytest.mark.slow
def test_one_worker_follows_the_order_that_this_host_would(make_job, write_script, tmp_path):
    script = write_script(SEE)
    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]})
    folder = write_records(host_folder(job, "algo-1") / "train", FILES)
    for host in job.hosts:
        launch(job, host, script, str(tmp_path), SM_CHANNEL_TRAIN=CHANNEL)
    assert set(job.wait(180).values()) == {0}, job.logs()
    here = files(folder, "*.tfrecord", passes=2, seed=5).as_numpy_iterator()
    assert [key for _, key, _ in read_seen(tmp_path, 1)] == [key.decode() for _, key, _ in here]


TRY = f"""
import os
from hetero_tfdata import errors, files

for channel, pattern in (("train", "*.tfrecord"), ("train", "same-*"), ("train", "*.jpg"), ("{CHANNEL}-2", "*"), ("sub", "*")):
    try:
        files(channel, pattern, ready_timeout_s=120)
        print("FINE", channel, pattern, flush=True)
    except errors.HeteroTFDataError as error:
        print(type(error).__name__, error, flush=True)
"""


def test_hosts_that_have_other_files_and_what_is_not_there(make_job, write_script):
    script = write_script(TRY)
    job = make_job({"data_group": ["algo-1", "algo-3"], "dnn_group": ["algo-2"]})
    for host, first in (("algo-1", 0), ("algo-3", 3)):  # as ShardedByS3Key deals them out
        channel = write_records(host_folder(job, host) / "train", 3, first)
        (channel / "same-1").touch()
        (channel / "folder").mkdir()
        (channel / "folder" / "inner").touch()
        launch(job, host, script, workers=2, SM_CHANNEL_TRAIN=CHANNEL)
    (host_folder(job, "algo-1") / "sub").mkdir()
    (host_folder(job, "algo-1") / "sub" / "a").touch()
    launch(job, "algo-2", script, SM_CHANNEL_TRAIN=CHANNEL, SM_CHANNEL_SUB="/proc/self/cwd/sub")
    assert set(job.wait(180).values()) == {0}, job.logs()
    printed = job.log("algo-2")
    assert (
        "ConfigurationError files('train'): expected the same files on all hosts with workers, got for '*.tfrecord' in "
        f"{CHANNEL}: algo-1: 3 files, the first is part-0.tfrecord; algo-3: 3 files, the first is part-3.tfrecord. Any worker"
    ) in printed, printed
    assert "make the channel FullyReplicated (ShardedByS3Key gives each host other files)" in printed
    assert "FINE train same-*" in printed
    assert "DataError files('train'): expected the same files" not in printed
    assert f"DataError files('train'): no file matches '*.jpg' in {CHANNEL} on algo-1, algo-3 (there are folder, " in printed
    assert (
        f"ConfigurationError files('{CHANNEL}-2'): expected the folder {CHANNEL}-2 on algo-1, algo-3, it is not there (beside "
        "it are "
    ) in printed
    assert "in /proc/self/cwd/sub: algo-1: 1 file, a; algo-3: no such folder." in printed


# --- an address instead of a cluster ---


def test_the_same_pixels_whichever_worker(stock_service, tmp_path):
    """What becomes of a sample follows from (seed, epoch, key)."""
    from hetero_tfdata.augment.chain import Chain
    from hetero_tfdata.augment.geometry import RandomFlip, RandomRotation

    random = np.random.default_rng(3)
    for file in range(5):
        with tf.io.TFRecordWriter(str(tmp_path / f"{file}.rec")) as writer:
            for image in random.integers(0, 256, (6, 8, 8, 3), np.uint8):
                writer.write(image.tobytes())
    chain = Chain([RandomFlip("horizontal"), RandomRotation(0.1)], seed=7, key=1, epoch=2)

    def augmented(service: str | None, batch_size: int) -> dict[tuple[bytes, int], bytes]:
        dataset = files(tmp_path, "*.rec", passes=3, seed=1, service=service, ready_timeout_s=60)
        dataset = dataset.map(
            lambda record, key, epoch: (tf.reshape(tf.io.decode_raw(record, tf.uint8), [8, 8, 3]), key, epoch)
        )
        dataset = dataset.batch(batch_size).map(chain)
        if service:
            dataset = dataset.apply(distribute(service=service, ready_timeout_s=60))
        rows = [row for batch in dataset.as_numpy_iterator() for row in zip(*batch, strict=True)]
        assert len(rows) == 5 * 6 * 3
        return {(key, int(epoch)): image.tobytes() for image, key, epoch in rows}

    here = augmented(None, 4)
    assert len(here) == 5 * 6 * 3, "each key once a pass"
    assert augmented(stock_service, 7) == here
    passes_alike = sum(here[key, 0] == here[key, 1] for key, epoch in here if epoch == 0)
    assert passes_alike < 10, "another pass, other random numbers"


@pytest.mark.parametrize("reader", ["text", "whole"])
def test_other_readers_cross_the_service(stock_service, tmp_path, reader):
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text(f"{number} a\n{number} b\n")
    dataset = files(tmp_path, "*.txt", passes=None, reader=reader, service=stock_service, ready_timeout_s=60)
    dataset = dataset.batch(3).apply(distribute(service=stock_service, ready_timeout_s=60)).unbatch()
    got = [(key.decode(), int(epoch), record) for record, key, epoch in dataset.take(200).as_numpy_iterator()]
    assert max(Counter((key, epoch) for key, epoch, _ in got).values()) == 1
    text = {"text": lambda name, number: f"{name[0]} {'ab'[number]}", "whole": lambda name, _: f"{name[0]} a\n{name[0]} b\n"}[
        reader
    ]
    for key, _, record in got:
        name, _, number = key.rpartition(":")
        assert record.decode() == text(name, int(number))


# --- a deadline ---

SERVE = """
import sys, time
import tensorflow as tf
service = tf.data.experimental.service
port = int(sys.argv[2])
if sys.argv[1] == "dispatcher":
    server = service.DispatchServer(service.DispatcherConfig(port=port))
else:
    server = service.WorkerServer(service.WorkerConfig(dispatcher_address=f"127.0.0.1:{port}",
                                  worker_address=f"127.0.0.1:{port + 1}", port=port + 1))
print("up", flush=True)
server.join()
"""
WAIT = """
import logging, sys
from hetero_tfdata import files
logging.basicConfig(level=logging.INFO)
print(sum(1 for _ in files(sys.argv[1], service=sys.argv[2], ready_timeout_s=float(sys.argv[3]))))
"""


@pytest.mark.faults
def test_a_frozen_worker_ends_in_an_error_at_the_deadline(tmp_path):
    """It still accepts connections, so that only its silence tells; and the process that waited for it ends."""
    folder = write_records(tmp_path / "train", 2)
    (port,) = free_blocks(1)
    servers = []

    def wait(timeout_s: float) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WAIT, str(folder), f"grpc://127.0.0.1:{port}", str(timeout_s)]
        return subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=90)

    try:
        for kind in ("dispatcher", "worker"):
            command = [sys.executable, "-c", SERVE, kind, str(port)]
            servers.append(subprocess.Popen(command, env=clean_environment(), stdout=subprocess.PIPE, text=True))
            assert servers[-1].stdout.readline() == "up\n"
        assert wait(60).stdout == f"{2 * RECORDS}\n"
        os.kill(servers[1].pid, signal.SIGSTOP)
        waited = wait(12)
        assert waited.returncode == 1, waited.stderr
        assert f"waiting for the list of files('{folder}') from 1 of 1 workers: 10 of 12 s" in waited.stderr
        assert f"NotReadyError: waited 12 s for the list of files('{folder}') from 1 of 1 workers" in waited.stderr
        servers[0].kill()
        servers[0].wait()
        waited = wait(1)
        assert "NotReadyError: waited" in waited.stderr
        assert f"s for the dispatcher at 127.0.0.1:{port}" in waited.stderr
    finally:
        for server in reversed(servers):
            server.kill()
            server.wait()
