"""numpy_function and py_function on the data hosts: in the job's own workers, each under the number that the graph has."""

from __future__ import annotations

import os
import re
import signal
import sys

import pytest

from support import children_of, wait_for

pytest.importorskip("tensorflow")

# a function of a module, one that is made with a value, a py_function, and one whose number differs from process to process
SOURCE = """
import numpy as np
import tensorflow as tf


def squared(x):
    return x * x


def made(by):
    def shifted(x):
        return x + np.int64(by)

    return shifted


def tripled(x):
    return x * 3


def importable(rows=10_000):
    dataset = tf.data.Dataset.range(rows).map(lambda x: tf.numpy_function(squared, [x], tf.int64))
    return dataset.map(lambda x: tf.ensure_shape(tf.py_function(tripled, [x], tf.int64), [])).batch(50)


def closed_over(rows=10_000):
    by_two, by_five = made(2), made(5)
    dataset = tf.data.Dataset.range(rows).map(lambda x: tf.numpy_function(FIRST, [x], tf.int64))
    dataset = dataset.map(lambda x: tf.numpy_function(SECOND, [x], tf.int64))
    return dataset.map(lambda x: tf.ensure_shape(tf.numpy_function(by_five, [x], tf.int64), [])).batch(50)
"""

PIXELS = SOURCE.replace("FIRST", "by_two").replace("SECOND", "squared")

EQUAL = """
import tensorflow as tf

import pixels
from hetero_tfdata import distribute

tf.data.Dataset.range(3).map(lambda x: tf.numpy_function(lambda y: y, [x], tf.int64))  # the numbers are other ones then


def rows(dataset):
    return sorted(int(row) for batch in dataset for row in batch)


local = rows(pixels.importable())
print("importable:", rows(pixels.importable().apply(distribute())) == local and len(local), flush=True)
local = rows(pixels.closed_over())
remote = rows(pixels.closed_over().apply(distribute(dataset_fn="pixels:closed_over")))
print("closed over:", remote == local and len(local), flush=True)
"""


def test_ten_thousand_elements_are_those_of_this_process(make_job, write_script):
    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]})
    write_script(PIXELS, "pixels.py")
    script = write_script(EQUAL)
    job.launch("algo-1", script, "--workers", "4")
    job.launch("algo-2", script)
    assert job.wait(120) == {"algo-1": 0, "algo-2": 0}, job.logs()
    assert "importable: 10000" in job.log("algo-2")
    assert "closed over: 10000" in job.log("algo-2")
    served = [worker["batches_served"] for worker in job.report("algo-1")["workers"]]
    assert len(served) == 4
    assert all(served), served
    assert "the workers have imported the Python functions squared, tripled, which a dataset calls" in job.log("algo-1")


REFUSED = """
import traceback

import changed, closed, missing, reordered
from hetero_tfdata import distribute, errors

for module in (changed, closed, reordered, missing):
    try:
        module.closed_over(10).apply(distribute(dataset_fn=f"{module.__name__}:closed_over", ready_timeout_s=60))
    except errors.HeteroTFDataError as error:
        print(f"{module.__name__} refused: {error}", flush=True)
try:
    closed.closed_over(10).apply(distribute())
except errors.DatasetError as error:
    print(f"undeclared refused: {error}", flush=True)
print("rows:", len(list(changed.importable(50).unbatch().take(1))), flush=True)
"""


def test_what_is_not_the_same_there_is_refused_in_one_line(make_job, tmp_path):
    """The data host has another source folder, which no job of SageMaker's has unless somebody changes it while it runs."""
    here, there = tmp_path / "here", tmp_path / "there"
    there_text = {
        "changed": PIXELS.replace("return x * x", "return x * x + 0"),
        "closed": PIXELS.replace("made(5)", "made(6)"),
        "reordered": SOURCE.replace("FIRST", "squared").replace("SECOND", "by_two"),
        "missing": None,
    }
    for folder in (here, there):
        folder.mkdir()
        (folder / "train.py").write_text(REFUSED)
    for name, text in there_text.items():
        (here / f"{name}.py").write_text(PIXELS)
        if text is not None:
            (there / f"{name}.py").write_text(text)
    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]})
    job.launch("algo-1", there / "train.py", "--workers", "1")
    job.launch("algo-2", here / "train.py")
    assert job.wait(120) == {"algo-1": 0, "algo-2": 0}, job.logs()
    said = dict(re.findall(r"(\w+) refused: (.*)", job.log("algo-2")))
    assert "squared of changed has another body there" in said["changed"]
    assert "made.<locals>.shifted of closed has closed over other values there" in said["closed"]
    assert "number 1 is made.<locals>.shifted here and squared there" in said["reordered"]
    assert "there is no module missing" in said["missing"]
    assert 'distribute(dataset_fn="module:make_dataset")' in said["undeclared"]
    assert all("algo-1" in said[name] for name in there_text)


KILLED = """
import os, sys

import pixels
from hetero_tfdata import distribute

before = after = 0
for batch in pixels.closed_over(200).repeat().apply(distribute(dataset_fn="pixels:closed_over")):
    if os.path.exists(sys.argv[1]):
        after += 1  # buffers hold some of the first process's
    else:
        before += 1
    if before == 20:
        print("reads", flush=True)
    if after == 300:
        break
"""


def test_a_worker_that_is_started_again_has_them_before_it_serves(make_job, write_script, tmp_path):
    """There is no other worker: what comes after the kill is its successor's."""
    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]})
    write_script(PIXELS, "pixels.py")
    script, killed = write_script(KILLED), tmp_path / "killed"
    job.launch("algo-1", script, "--workers", "1")
    job.start("algo-2", sys.executable, "-m", "hetero_tfdata", "launch", str(script), str(killed))
    wait_for(lambda: "reads" in job.log("algo-2"), 60, "the first batches")
    (worker,) = [pid for pid, command in children_of(job.processes["algo-1"].pid).items() if "worker" in command]
    os.kill(worker, signal.SIGKILL)
    killed.touch()
    assert job.wait(90) == {"algo-1": 0, "algo-2": 0}, job.logs()
    (report,) = job.report("algo-1")["workers"]
    assert report["restarts"] == 1
