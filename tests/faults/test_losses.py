"""What is told of rows that are lost with a worker. A million of them over four ranks: cluster/test_exactly_once.py."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import numpy as np
import tensorflow as tf

from hetero_tfdata import distribute
from support import children_of, wait_for

ENDLESS = """
import time
import tensorflow as tf
from hetero_tfdata import distribute
dataset = tf.data.Dataset.range(1000).repeat().batch(10).apply(distribute(ready_timeout_s=120))
for number, batch in enumerate(dataset):
    if number == 30:
        print("READING", flush=True)
    time.sleep(0.02)
    if number > 30 and open({log!r}).read().count("was started again") == 1:
        break
"""


def test_of_an_endless_dataset_the_log_tells_the_death_and_the_batches_that_nobody_got(make_job, write_script):
    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]})
    script = write_script(ENDLESS.format(log=str(job.root / "algo-2.log")))
    job.launch("algo-1", script, "--workers", "2")
    job.launch("algo-2", script)
    wait_for(lambda: "READING" in job.log("algo-2"), 120, "reading")
    servers = children_of(job.processes["algo-1"].pid)
    os.kill(next(pid for pid, command in servers.items() if str(job.first_port["algo-1"] + 11) in command), signal.SIGKILL)
    assert job.wait(180) == {"algo-1": 0, "algo-2": 0}, job.logs()
    told = "worker 1 of algo-1 was started again: the rows that it had in work do not come in this pass; how many is not known"
    assert f"hetero_tfdata: algo-2: {told}" in job.log("algo-2")
    made, got = re.search(r"the workers made ([\d,]+) batches and the ranks got ([\d,]+): ", job.log("algo-2")).groups()
    assert int(made.replace(",", "")) >= int(got.replace(",", "")) > 30
    report = json.loads((job.base("algo-2") / "output" / "data" / "hetero_tfdata" / "losses.json").read_text())
    assert report == {"lost": [], "restarted": {"worker 1 of algo-1": 1}}


def test_of_a_service_that_is_not_the_jobs_own_the_script_tells_the_number(fragile_service, caplog):
    fragile_service.wait_until_both_serve()
    numbers = tf.data.Dataset.from_tensor_slices(np.arange(4000).reshape(20, 200)).unbatch().batch(10)
    seen: list[int] = []
    for number, batch in enumerate(numbers.apply(distribute(service=fragile_service.address, ready_timeout_s=60))):
        seen += batch.numpy().tolist()
        time.sleep(0.01)
        if number == 60:
            fragile_service.kill(1)
            fragile_service.start_again(1)
    assert len(seen) == len(set(seen)), "no row twice"
    lost = 4000 - len(seen)
    assert 0 < lost < 1000
    said = f"pass 1: {lost:,} of 4,000 rows did not come: a worker must have died; nobody tells which one"
    wait_for(lambda: said in caplog.text, 30, "the log")
