"""Reads numbered rows, and writes which came when, and how the data hosts' workers were meanwhile, to report-RANK.json.

--rows N              of the dataset
--endless 1           again and again
--seconds S           reads that long and ends; 0: to the end of the dataset
--until-restarts N    reads until N servers of the data hosts were started again and make batches
--until-all 1         reads until every data host has made batches
--on-loss HOW         distribute(on_service_loss=HOW)
--hog-gib N           the worker that gets row 5,000 allocates so much memory
--end HOW             after that: ok, raise, hog (rank 1 allocates memory until it is killed), or a number to exit with
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from typing import Any

import numpy as np
import tensorflow as tf

from hetero_tfdata import Cluster, distribute
from hetero_tfdata.errors import JobError
from hetero_tfdata.service.status import ask_status

_BATCH = 50
_STEP_S = 0.02
_LOOK_S = 0.5
_HOG_ROW = 5000


class Look:
    """Samples of the data hosts: [time, host, whether all its workers serve, restarts of its servers, their batches]."""

    def __init__(self, cluster: Cluster) -> None:
        self.samples: list[Any] = []
        self._hosts = cluster.data_hosts
        self._ended = threading.Event()
        if cluster.is_leader:
            threading.Thread(target=self._run, daemon=True).start()

    def end(self) -> None:
        """No more samples."""
        self._ended.set()

    def has_seen(self, restarts: int) -> bool:
        """Whether so many servers were started again, and each of those hosts has made batches since."""
        latest = {sample[1]: sample for sample in self.samples[-20:]}
        if sum(sample[3] for sample in latest.values()) < restarts:
            return False
        for host, (*_, ready, count, served) in latest.items():
            if not ready:
                return False
            since = next(sample for sample in self.samples if sample[1] == host and sample[2] and sample[3] == count)
            if count and served <= since[4]:
                return False
        return True

    def has_seen_all(self) -> bool:
        """Whether each data host has made batches between two samples."""
        for host in self._hosts:
            served = [sample[4] for sample in self.samples if sample[1] == host.name and sample[2]]
            if not served or served[-1] <= served[0]:
                return False
        return True

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_S):
            for host in self._hosts:
                with contextlib.suppress(JobError):
                    told = ask_status(host, 1.0)
                    servers = [*told.workers, *([told.dispatcher] if told.dispatcher else [])]
                    ready = all(one.ready for one in servers)
                    restarts, served = sum(one.restarts for one in servers), sum(one.batches_served for one in servers)
                    self.samples.append([time.time(), host.name, ready, restarts, served])


def numbers(options: argparse.Namespace) -> tf.data.Dataset:
    """The rows."""
    dataset = tf.data.Dataset.range(options.rows)
    if options.hog_gib:

        def hog(row: tf.Tensor) -> tf.Tensor:
            floats = tf.where(row == _HOG_ROW, int(options.hog_gib * 2**28), 1)
            # its sum, so that nobody can do without it
            total = tf.reduce_sum(tf.random.uniform([floats]))
            with tf.control_dependencies([total]):
                return tf.identity(row)

        dataset = dataset.map(hog)
    return (dataset.repeat() if options.endless else dataset).batch(_BATCH)


def main() -> None:
    """Reads and writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10**9)
    parser.add_argument("--endless", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--until-restarts", type=int, default=0)
    parser.add_argument("--until-all", type=int, default=0)
    parser.add_argument("--on-loss", default="fail")
    parser.add_argument("--hog-gib", type=float, default=0.0)
    parser.add_argument("--end", default="ok")
    options = parser.parse_args()
    cluster = Cluster.discover()
    look = Look(cluster)
    times: list[float] = []
    rows: list[np.ndarray] = []
    for batch in numbers(options).apply(distribute(ready_timeout_s=120, on_service_loss=options.on_loss)):
        rows.append(batch.numpy())
        times.append(time.time())
        if len(times) == 1:
            print("READING", flush=True)
        if options.seconds and times[-1] - times[0] > options.seconds:
            break
        if options.until_restarts and look.has_seen(options.until_restarts):
            break
        if options.until_all and look.has_seen_all():
            break
        time.sleep(_STEP_S)
    look.end()
    every = np.concatenate(rows)
    report = {
        "rows": int(every.size),
        "twice": int(every.size - np.unique(every).size),
        "times": times,
        "samples": look.samples,
    }
    name = f"report-{cluster.ranks.rank}.json"
    with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], name), "w") as file:
        json.dump(report, file)
    if options.end == "raise":
        raise ValueError("no such layer: conv9")
    if options.end == "hog":
        hoard = [bytearray(b"x") * 2**28 for _ in range(100 * cluster.ranks.rank)]
        time.sleep(600 + len(hoard))
    elif options.end != "ok":
        sys.exit(int(options.end))


if __name__ == "__main__":
    main()
