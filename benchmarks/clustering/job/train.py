"""The training side: real batches, an emulated accelerator.

A step waits for its batch, perhaps copies and casts it as a client does before the accelerator takes it, and sleeps for as long
as the accelerator would compute. Several steps times are measured one after the other in one run, the shortest first: what
buffers hold from a longer one would make a shorter one look better.

Writes output/data/steps.json: for each phase its floor_ms, work, step_ms and input_wait_ms (medians and means), began and ended
(time.time()), and of the whole run bytes_per_step and dtype.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from graphs import GRAPHS

_BESIDE = ThreadPoolExecutor(1)
_BLOCK = bytes(200_000)  # long enough that hashing it lets go of the interpreter


def main() -> None:
    """Trains, if that is the word."""
    options = parse()
    dataset = attach(GRAPHS[options.graph](options.batch), options)
    batches = iter(dataset)
    warm_up(batches, options)
    phases = [measure(batches, floor, work, options) for floor in options.floors for work in options.work]
    first = tf.nest.flatten(dataset.element_spec)[0]
    size = int(np.prod([options.batch, *first.shape[1:]])) * first.dtype.size
    report = {"graph": options.graph, "feed": options.feed, "batch": options.batch, "dtype": first.dtype.name}
    folder = Path(os.environ["SM_OUTPUT_DATA_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "steps.json").write_text(json.dumps({**report, "bytes_per_step": size, "phases": phases}, indent=1))


def parse() -> argparse.Namespace:
    """The hyperparameters."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", choices=GRAPHS, required=True)
    parser.add_argument("--feed", choices=("plain", "ours", "published", "tuned"), required=True)
    parser.add_argument("--batch", type=int, required=True, help="images of a step")
    parser.add_argument("--floors", required=True, help="ms of the accelerator, rising, with commas")
    parser.add_argument("--work", default="sleep,copy", help="sleep, copy or both")
    parser.add_argument("--steps", type=int, default=60, help="measured in each phase")
    parser.add_argument(
        "--burn-ms", type=float, default=0.0, help="CPU time of the script in each step, beside the accelerator"
    )
    parser.add_argument("--warm-up-s", type=float, default=10.0)
    options = parser.parse_args()
    options.floors = sorted(float(floor) for floor in str(options.floors).split(","))
    options.work = options.work.split(",")
    return options


def attach(dataset: tf.data.Dataset, options: argparse.Namespace) -> tf.data.Dataset:
    """The dataset as this contender runs it."""
    if options.feed == "plain":
        return dataset
    if options.feed == "ours":
        from hetero_tfdata import distribute

        return dataset.apply(distribute())
    service = os.environ["STOCK_SERVICE"]
    if options.feed == "published":
        way = {"processing_mode": "parallel_epochs", "max_outstanding_requests": 64}
    else:
        way = {"processing_mode": "distributed_epoch", "compression": None}
    return dataset.apply(tf.data.experimental.service.distribute(service=service, **way)).prefetch(tf.data.AUTOTUNE)


def warm_up(batches: Iterator, options: argparse.Namespace) -> None:
    """Until all workers serve (a graph that holds its images takes a while over a scaled link), and caches and tf.data's tuning
    are in their stride."""
    serving = threading.Event()
    threading.Thread(target=wait_for_workers, args=(serving, options.feed == "ours"), daemon=True).start()
    while not serving.is_set():
        step(batches, options.floors[0] / 1e3, options.work[0], options.burn_ms)
    started = time.monotonic()
    while time.monotonic() - started < options.warm_up_s:
        step(batches, options.floors[0] / 1e3, options.work[0], options.burn_ms)


def wait_for_workers(serving: threading.Event, are_ours: bool) -> None:
    """Until every worker of every data host has made a batch; the package's own can be asked."""
    if are_ours:
        from hetero_tfdata import Cluster
        from hetero_tfdata.service.status import ask_status

        for host in Cluster.discover().data_hosts:
            while not all(worker.batches_served for worker in ask_status(host, 30).workers):
                time.sleep(0.5)
    serving.set()


def measure(batches: Iterator, floor_ms: float, work: str, options: argparse.Namespace) -> dict:
    """One phase."""
    steps = options.steps
    for _ in range(max(5, steps // 3)):
        step(batches, floor_ms / 1e3, work, options.burn_ms)
    began, times, waits = time.time(), [], []
    last = time.perf_counter()
    for _ in range(steps):
        waits.append(step(batches, floor_ms / 1e3, work, options.burn_ms))
        now = time.perf_counter()
        times.append(now - last)
        last = now
    return {
        "floor_ms": floor_ms,
        "work": work,
        "steps": steps,
        "step_ms": 1e3 * statistics.fmean(times),
        "step_ms_median": 1e3 * statistics.median(times),
        "input_wait_ms": 1e3 * statistics.fmean(waits),
        "began": began,
        "ended": time.time(),
    }


def step(batches: Iterator, floor_s: float, work: str, burn_ms: float) -> float:
    """One step; seconds that it waited for its batch."""
    asked = time.perf_counter()
    images = next(batches)[0]
    waited = time.perf_counter() - asked
    if work == "copy":
        # into the accelerator's buffer, and to the floats that its first layer takes
        staged = np.array(images)
        tf.cast(staged, tf.float32)
    burning = _BESIDE.submit(burn, burn_ms) if burn_ms else None
    time.sleep(floor_s)
    if burning is not None:
        burning.result()
    return waited


def burn(milliseconds: float) -> None:
    """Takes so much CPU time, and holds up no other thread."""
    ends = time.thread_time() + milliseconds / 1e3
    while time.thread_time() < ends:
        hashlib.sha256(_BLOCK)


if __name__ == "__main__":
    main()
