"""CPU nanoseconds a value of each operation of the catalogue, for chain.plan() and chain.split().

    make bench-augment_costs

One core, one thread, uint8 224x224x3 (or x1), batches of 16, medians; writes hetero_tfdata/augment/costs.tsv.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import hetero_tfdata.augment
from hetero_tfdata import augment
from hetero_tfdata.augment.catalogue import CATALOGUE, Entry

SIDE = 224
BATCH = 16
RUNS = 7
TABLE = Path(hetero_tfdata.augment.__file__).with_name("costs.tsv")


def nanoseconds(entry: Entry) -> float:
    """CPU nanoseconds a value of the input."""
    rng = np.random.default_rng(1)
    images = tf.constant(rng.integers(0, 256, (BATCH, SIDE, SIDE, entry.channels), dtype=np.uint8))
    labels, keys = tf.one_hot(tf.range(BATCH) % 10, 10), tf.range(BATCH)
    function = tf.function(augment.Chain([entry.make(2, SIDE)], seed=1, key=2))
    function(images, labels, keys)
    seconds = []
    for _ in range(RUNS):
        started = time.process_time()
        for _ in range(3):
            function(images, labels, keys)
        seconds.append((time.process_time() - started) / 3)
    return statistics.median(seconds) / (BATCH * SIDE * SIDE * entry.channels) * 1e9


def main() -> int:
    """Prints and writes the table."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    costs: dict[str, float] = {}
    for entry in CATALOGUE:
        cost = nanoseconds(entry)
        costs[entry.name] = max(cost, costs.get(entry.name, 0.0))
        print(f"{entry.name:<24}{cost:8.2f} ns a value")
    lines = [
        "# CPU nanoseconds a value of the input of each operation, one core; written by make bench-augment_costs",
        f"# {time.strftime('%Y-%m-%d')}, TensorFlow {tf.__version__}, {platform.machine()}, uint8 {BATCH}x{SIDE}x{SIDE}",
        "operation\tcpu_ns_per_value",
        *(f"{name}\t{cost:.2f}" for name, cost in sorted(costs.items())),
    ]
    TABLE.write_text("\n".join(lines) + "\n")
    print(f"written to {os.path.relpath(TABLE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
