"""distribute(cache=...) on real workers: decoding is paid once, also by a worker that was started again."""

from __future__ import annotations

import collections
import json
import os
import signal
from pathlib import Path

import pytest

from support import children_of, wait_for

tf = pytest.importorskip("tensorflow")
FILES, RECORDS = 6, 20
EVERY = FILES * RECORDS

# Two loops over two passes; between the loops it waits for the test.
TRAIN = """
import json, logging, os, sys, time
logging.basicConfig(level=logging.INFO)
import tensorflow as tf
from hetero_tfdata import Cache, distribute, files

folder, where = os.environ["FOLDER"], os.environ["WHERE"]

def decode(record, key, epoch):
    tf.print(key, output_stream=f"file://{folder}/decoded")
    return tf.io.decode_raw(record, tf.uint8)[:9], key, epoch

def augment(image, key, epoch):
    return tf.cast(image, tf.int32) + tf.random.uniform([], 0, 2**30, tf.int32), image, key, epoch

dataset = files(f"{folder}/train", "*.tfrecord", passes=2, seed=5, ready_timeout_s=120)
dataset = dataset.map(decode, num_parallel_calls=2).map(augment).batch(8)
dataset = dataset.apply(distribute(cache=Cache(where, gib=0.01), ready_timeout_s=120))
for loop in range(2):
    seen = []
    for noisy, images, keys, epochs in dataset:
        rows = zip(keys.numpy(), epochs.numpy(), images.numpy(), noisy.numpy())
        for key, epoch, image, other in rows:
            seen.append((key.decode(), int(epoch), image.tobytes().decode(), int(other[0] - image[0])))
    with open(f"{folder}/loop-{loop}.json.new", "w") as file:
        json.dump(seen, file)
    os.rename(f"{folder}/loop-{loop}.json.new", f"{folder}/loop-{loop}.json")
    while loop == 0 and not os.path.exists(f"{folder}/go-on"):
        time.sleep(0.1)
"""


def write_records(folder: Path) -> None:
    folder.mkdir()
    for file in range(FILES):
        with tf.io.TFRecordWriter(str(folder / f"{file}.tfrecord")) as writer:
            for number in range(RECORDS):
                writer.write(f"{file}:{number:02}:xxxxx".encode())


def workers_of(job, host: str) -> list[int]:
    found = children_of(job.processes[host].pid)
    return sorted(pid for pid, command in found.items() if "worker" in command)


@pytest.mark.parametrize("where", [pytest.param("memory", marks=pytest.mark.faults), "disk"])
def test_each_record_is_decoded_once_on_its_host(make_job, write_script, tmp_path, where):
    """Two workers share what they keep; one of them is killed between two loops; the rows of each pass are all there."""
    write_records(tmp_path / "train")
    script = write_script(TRAIN)
    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]})
    for host in ("algo-1", "algo-2"):
        job.launch(host, script, "--workers", "2", FOLDER=str(tmp_path), WHERE=where)
    wait_for((tmp_path / "loop-0.json").exists, 240, f"the first loop\n{job.logs()}")
    killed = workers_of(job, "algo-1")[0]
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: len(set(workers_of(job, "algo-1")) - {killed}) == 2, 60, "the worker's successor")
    (tmp_path / "go-on").touch()
    assert job.wait(240) == {"algo-1": 0, "algo-2": 0}, job.logs()

    drawn = collections.defaultdict(set)
    for loop in range(2):
        rows = json.loads((tmp_path / f"loop-{loop}.json").read_text())
        assert collections.Counter(epoch for _, epoch, _, _ in rows) == {0: EVERY, 1: EVERY}
        assert len({(key, epoch) for key, epoch, _, _ in rows}) == 2 * EVERY, "each row once a pass"
        for key, _, image, noise in rows:
            assert image == f"{key.partition('.')[0]}:{int(key.rpartition(':')[2]):02}:xxxx"
            drawn[key].add(noise)
    assert {len(noise) for noise in drawn.values()} == {4}, "other numbers in each pass"

    decoded = collections.Counter((tmp_path / "decoded").read_text().split())
    assert len(decoded) == EVERY
    # one may be on its way in both passes at the same time
    assert decoded.total() <= 1.2 * EVERY
    cache = job.report("algo-1")["cache"]
    assert cache["misses"] == decoded.total()
    assert cache["hits"] + cache["misses"] == 4 * EVERY
    assert 0 < cache["bytes_held"] <= 0.01 * 2**30
    assert not cache["full"]
    assert f"map(decode) is computed once and kept ({where}, 10.7 MB a host)" in job.log("algo-2")
    assert f"cache: {cache['hits']} hits, {cache['misses']} misses" in job.log("algo-1")
    assert not list(job.root.glob("hetero-tfdata-cache-*")), "the folders go with the job"
